"""What a person can do about a state, one sentence per reason, for `llmtrain why`. The trainer's config has the remedies for failures."""

from __future__ import annotations

from llmtrain_trainer.config.tables.failures import FAILURES

_STATES = {
    # nothing is created
    "Refused": "Fix the manifest and submit it again: `llmtrain validate -f job.yaml` checks it locally.",
    "QuotaExceeded": "Request less, free resources in the namespace, or ask for a higher quota; pod creation is retried automatically.",
    "PriorityClassMissing": "Create it, or name another in spec.scheduling.priorityClassName.",
    "ServiceAccountMissing": "Create it, or name another in spec.scheduling.serviceAccountName.",
    "NamespaceTerminating": "Nothing needs to be done: the job goes with its namespace. To keep training, submit it in another namespace.",
    "PodSecurity": "Ask the administrator of the namespace; the pods that the operator creates meet the restricted standard.",
    "PodsRefused": "Fix the cause named above; pod creation is retried automatically.",
    "NameInUse": "Wait until they are gone, or choose another name.",
    "NameTaken": "Rename or remove the object with that name, or submit the job under another name.",
    "Unseen": "Check that the operator runs and watches this namespace: `kubectl get pods -A -l app.kubernetes.io/name=llmtrain`.",
    "NoOperator": "Ask the administrator of the operator: `kubectl get pods -A -l app.kubernetes.io/name=llmtrain` shows its pods.",
    "ManagedElsewhere": "Ask the controller that spec.managedBy names.",
    # it waits
    "Queued": "Wait for the queue, or ask its administrator: `kubectl describe workload` shows the position in it.",
    "GangOrder": "Wait: it starts as soon as that job's pods are placed. With a gang scheduler, such as Kueue, no job waits for this.",
    "GaveWay": "Wait for its next turn, or request fewer nodes.",
    "Backoff": "Wait, or fix the cause of the last failures; `llmtrain logs {job}` shows the logs of those attempts.",
    # no place
    "Unschedulable": "Free what it names, or change spec.resources or spec.scheduling; `kubectl describe nodes` shows what nodes have.",
    "VolumeMissing": "Create the claim; the job then continues automatically.",
    "VolumeUnbound": "`kubectl describe pvc` shows why: usually the storage class does not exist, or no volume has that size.",
    "VolumeNotMounted": "Check the volume behind the claim; the kubelet retries automatically.",
    # no container
    "SecretMissing": "Create it, or name another in spec.checkpoint.secretName; the kubelet retries automatically.",
    "ContainerNotCreated": "Fix the cause named above; the kubelet retries automatically.",
    # the gang
    "AgentNotHeard": "Wait a moment; if it persists, check whether a NetworkPolicy blocks the operator from the pods.",
    "Rendezvous": "If it persists, look at `llmtrain logs {job}`: the pods must reach node 0 by name and port.",
    "RestartInPlace": "Wait: it resumes from the last checkpoint; `llmtrain logs {job}` shows the output of the ranks.",
    "Fencing": "Wait: pods of an older attempt save and end first.",
    "Failing": "Wait a moment: the pods end, and their termination messages say why.",
    "Stopping": "Wait: the pods save a checkpoint and end.",
    "Suspended": "`llmtrain resume {job}` resumes from the last checkpoint.",
}


def remedy(reason: str, job: str, rank: int | None = None) -> str | None:
    """The sentence; None if there is nothing to do but wait."""
    said = FAILURES[reason].remedy if reason in FAILURES else _STATES.get(reason)
    if said is None or ("{rank}" in said and rank is None):
        return said and said.replace(" --rank {rank}", "").replace("{job}", job)
    return said.replace("{job}", job).replace("{rank}", str(rank))
