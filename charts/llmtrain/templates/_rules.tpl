{{/* What the operator asks of the API server, and no more: tests/cluster compares it with what it was seen to ask. */}}

{{- define "llmtrain.rules" -}}
- apiGroups: [llmtrain.io]
  resources: [llmtrainjobs]
  verbs: [get, list, watch, delete]  # delete: ttlSecondsAfterFinished
- apiGroups: [llmtrain.io]
  resources: [llmtrainjobs/status]
  verbs: [patch]
- apiGroups: [""]
  resources: [pods]
  verbs: [get, list, watch, create, delete]  # get, here and below: whose the object is that has the name of ours
- apiGroups: [""]
  resources: [configmaps]
  verbs: [get, list, create, delete]  # delete, here and below: what an earlier job of the same name, or an earlier attempt, left behind
- apiGroups: [""]
  resources: [services]
  verbs: [get, create, patch, delete]
- apiGroups: [networking.k8s.io]
  resources: [networkpolicies]
  verbs: [get, create, patch, delete]
- apiGroups: [""]
  resources: [events]
  verbs: [get, list, create, patch]  # list: warnings tell why a pod does not start
- apiGroups: [kueue.x-k8s.io]
  resources: [workloads]
  verbs: [get]
- apiGroups: [scheduling.volcano.sh, scheduling.x-k8s.io]
  resources: [podgroups]
  verbs: [get, list, create, delete]
{{- end -}}

{{/* Of the whole cluster alone: whether the node of a pod that is not well is still there. */}}
{{- define "llmtrain.clusterRules" -}}
- apiGroups: [""]
  resources: [nodes]
  verbs: [get]
{{- end -}}
