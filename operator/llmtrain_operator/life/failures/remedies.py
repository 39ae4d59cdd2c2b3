"""What a person can do about a state: one sentence a reason. Shown by `llmtrain why` under the sentence that says what is the matter."""

from __future__ import annotations

_REMEDIES = {
    # nothing is created
    "Refused": "Put the manifest right and submit it again: `llmtrain validate -f job.yaml` checks it here.",
    "QuotaExceeded": "Ask for less, free what the namespace uses, or have the quota raised; the pods are tried again by themselves.",
    "PriorityClassMissing": "Create it, or name another in spec.scheduling.priorityClassName.",
    "ServiceAccountMissing": "Create it, or name another in spec.scheduling.serviceAccountName.",
    "PodSecurity": "Ask whoever keeps the namespace; the operator's own pods keep to the restricted standard.",
    "PodsRefused": "Put right what it names; the pods are tried again by themselves.",
    "NameInUse": "Wait until they are gone, or choose another name.",
    "DestinationInUse": "Wait, or submit it again with a destination of its own, for its checkpoints or its exports as the sentence says.",
    "NameTaken": "Have what bears that name renamed or removed, or submit the job under another name.",
    "Unseen": "Look whether the operator runs and watches this namespace: `kubectl get pods -A -l app.kubernetes.io/name=llmtrain`.",
    "NoOperator": "Ask whoever runs the operator: `kubectl get pods -A -l app.kubernetes.io/name=llmtrain` shows its pods.",
    "ManagedElsewhere": "Ask that controller; spec.managedBy names it.",
    # it waits
    "Queued": "Wait for the queue, or ask its administrator: `kubectl describe workload` shows its place.",
    "GangOrder": "Wait: it starts as soon as that job's pods are placed. A scheduler of gangs, such as Kueue, lifts this order.",
    "GaveWay": "Wait for its next turn, or ask for fewer nodes.",
    "Backoff": "Wait, or put right what ended the last attempts; `llmtrain logs {job}` shows their words.",
    # no place
    "Unschedulable": "Free what it names, or change spec.resources or spec.scheduling; `kubectl describe nodes` shows what nodes have.",
    "VolumeMissing": "Create the claim; the job then goes on by itself.",
    "VolumeUnbound": "`kubectl describe pvc` says why: most often there is no such storage class, or no volume of that size.",
    "VolumeNotMounted": "Check the volume behind the claim; the kubelet tries again by itself.",
    # no container
    "ImagePullFailed": "Check the name, and spec.scheduling.imagePullSecrets for a private registry; it is tried again by itself.",
    "BadImage": "Put spec.scheduling.image right and submit the job under a new name.",
    "SecretMissing": "Create it, or name another in spec.checkpoint.secretName; it is tried again by itself.",
    "ContainerNotCreated": "Put right what it names; the kubelet tries again by itself.",
    "ContainerNotStarted": "spec.scheduling.image must hold the trainer: `python -m llmtrain_trainer --help` must run in it.",
    # the gang
    "AgentNotHeard": "Wait a moment; if it stays so, look whether a NetworkPolicy keeps the operator from the pods.",
    "Rendezvous": "If it stays so, look at `llmtrain logs {job}`: the pods must reach node 0 by name and port.",
    "RestartInPlace": "Wait: it goes on from the last checkpoint; `llmtrain logs {job}` shows what the ranks said.",
    "Fencing": "Wait: pods of an older attempt save and end first.",
    "Failing": "Wait a moment: the pods end, and their last words say why.",
    "Stopping": "Wait: they save what they have.",
    "Suspended": "`llmtrain resume {job}` goes on from the last checkpoint.",
    # it failed
    "OutOfMemory": "Use a smaller micro-batch or sequence, or cut the model further: `llmtrain plan` says what fits.",
    "BadConfig": "Put right what it names, then submit the job under a new name.",
    "BadData": "Put the data right, then submit the job under a new name.",
    "Diverged": "Lower spec.training.optimizer.learningRate or look at that step's data; a new name goes on from the last checkpoint.",
    "NoGoodCheckpoint": "Bring the files back, or submit it under a new name with spec.checkpoint.resume: none to begin at step 0.",
    "PreparationFailed": "Look at `llmtrain logs {job}`: lines marked [prepare] come from it.",
    "RankFailed": "Look at what the rank said last: `llmtrain logs {job} --rank {rank}`.",
    "AgentFailed": "Look at what the agent said last: `llmtrain logs {job} --node 0`.",
    "Hang": "The stacks of all ranks are in their logs: `llmtrain logs {job} --rank {rank}`.",
    "Fenced": "The next attempt goes on. If it comes again: give each job a spec.checkpoint.destination of its own.",
    "StoreUnreachable": "Check spec.checkpoint.destination, its secret and its endpoint.",
    "PreflightFailed": "Put right what it names: it is checked before anything else starts.",
    "Crashed": "Look at the last lines of `llmtrain logs {job}`: a fault in native code, most often of a driver or a kernel library.",
    "Killed": "Look at the node's own log (`journalctl -k`): its memory killer, or a person, ended the process.",
    "PeerLost": "Look at the other pods' last words: `llmtrain logs {job}`; if all are silent, at the network between their nodes.",
    "PodFailed": "`kubectl describe pod` shows what Kubernetes knows of it.",
    "PodDeleted": "Find out who deletes the job's pods; `llmtrain suspend {job}` is how to stop it.",
    "RefusedByNode": "Look at the node's devices: `kubectl describe node`; the job keeps away from it if it can.",
    "Evicted": "Ask for the memory it needs in spec.resources.memory, or free the node's disk; the job keeps away from it if it can.",
    "LimitExceeded": "Raise the limit that it names, or write less: it would be evicted on every node.",
    "StoppedFromOutside": "Look what keeps the kubelet from port 9400 of the pods: `kubectl get events` shows failed probes.",
    # it was taken away, or waited in vain, and comes back
    "Drained": "Nothing: it goes on elsewhere from what it saved.",
    "Preempted": "Wait for room; spec.scheduling.priorityClassName decides who gives way.",
    "Saved": "Nothing: it was told to stop, saved, and goes on from there.",
    "StoppedUnsaved": "Set spec.checkpoint to lose less: what was trained since the last checkpoint is trained again.",
    "GangIncomplete": "Free the nodes it lacks, or ask for fewer; a scheduler of gangs, such as Kueue, keeps the others free meanwhile.",
    "NodeLost": "Nothing: it goes on elsewhere from the last checkpoint.",
    "RestartBudgetSpent": "Put right what it names; resilience.restarts.max allows more. Submit it under a new name to go on.",
    "DeadlineExceeded": "Raise spec.activeDeadlineSeconds, and submit it under a new name to go on from its last checkpoint.",
    "StartupDeadline": "Put right what held it up, or raise spec.startupDeadlineSeconds.",
}


def remedy(reason: str, job: str, rank: int | None = None) -> str | None:
    """The sentence; None where there is nothing to do but wait."""
    said = _REMEDIES.get(reason)
    if said is None or ("{rank}" in said and rank is None):
        return said and said.replace(" --rank {rank}", "").replace("{job}", job)
    return said.replace("{job}", job).replace("{rank}", str(rank))
