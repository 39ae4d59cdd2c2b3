"""What a person can do about a state, one sentence a reason, which `llmtrain why` shows. Failures have theirs in the trainer's config."""

from __future__ import annotations

from llmtrain_trainer.config.failures import FAILURES

_STATES = {
    # nothing is created
    "Refused": "Put the manifest right and submit it again: `llmtrain validate -f job.yaml` checks it here.",
    "QuotaExceeded": "Ask for less, free what the namespace uses, or have the quota raised; the pods are tried again by themselves.",
    "PriorityClassMissing": "Create it, or name another in spec.scheduling.priorityClassName.",
    "ServiceAccountMissing": "Create it, or name another in spec.scheduling.serviceAccountName.",
    "PodSecurity": "Ask whoever keeps the namespace; the operator's own pods keep to the restricted standard.",
    "PodsRefused": "Put right what it names; the pods are tried again by themselves.",
    "NameInUse": "Wait until they are gone, or choose another name.",
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
    "SecretMissing": "Create it, or name another in spec.checkpoint.secretName; it is tried again by itself.",
    "ContainerNotCreated": "Put right what it names; the kubelet tries again by itself.",
    # the gang
    "AgentNotHeard": "Wait a moment; if it stays so, look whether a NetworkPolicy keeps the operator from the pods.",
    "Rendezvous": "If it stays so, look at `llmtrain logs {job}`: the pods must reach node 0 by name and port.",
    "RestartInPlace": "Wait: it goes on from the last checkpoint; `llmtrain logs {job}` shows what the ranks said.",
    "Fencing": "Wait: pods of an older attempt save and end first.",
    "Failing": "Wait a moment: the pods end, and their last words say why.",
    "Stopping": "Wait: they save what they have.",
    "Suspended": "`llmtrain resume {job}` goes on from the last checkpoint.",
}


def remedy(reason: str, job: str, rank: int | None = None) -> str | None:
    """The sentence; None where there is nothing to do but wait."""
    said = FAILURES[reason].remedy if reason in FAILURES else _STATES.get(reason)
    if said is None or ("{rank}" in said and rank is None):
        return said and said.replace(" --rank {rank}", "").replace("{job}", job)
    return said.replace("{job}", job).replace("{rank}", str(rank))
