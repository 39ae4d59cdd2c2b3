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
  verbs: [list, watch, create, delete]
- apiGroups: [""]
  resources: [configmaps, services]
  verbs: [create, patch]
- apiGroups: [networking.k8s.io]
  resources: [networkpolicies]
  verbs: [create, patch]
- apiGroups: [""]
  resources: [events]
  verbs: [get, list, create, patch]  # list: warnings tell why a pod does not start
- apiGroups: [kueue.x-k8s.io]
  resources: [workloads]
  verbs: [get]
- apiGroups: [scheduling.volcano.sh, scheduling.x-k8s.io]
  resources: [podgroups]
  verbs: [get, create, patch]
{{- end -}}

{{/* Of the whole cluster alone: whether the node of a pod that is not well is still there. */}}
{{- define "llmtrain.clusterRules" -}}
- apiGroups: [""]
  resources: [nodes]
  verbs: [get]
{{- end -}}
