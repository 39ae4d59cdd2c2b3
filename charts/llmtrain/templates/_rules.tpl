{{/* The rights that the operator needs, and no more: tests/cluster compares them with its requests. */}}

{{- define "llmtrain.rules" -}}
- apiGroups: [llmtrain.io]
  resources: [llmtrainjobs]
  verbs: [get, list, watch, delete]  # delete: ttlSecondsAfterFinished
- apiGroups: [llmtrain.io]
  resources: [llmtrainjobs/status]
  verbs: [patch]
- apiGroups: [""]
  resources: [pods]
  verbs: [get, list, watch, create, delete]  # get, here and below: who owns an existing object with the same name
- apiGroups: [""]
  resources: [configmaps]
  verbs: [get, list, create, delete]  # delete, here and below: objects of an earlier job with the same name, or of an earlier attempt
- apiGroups: [""]
  resources: [services]
  verbs: [get, create, patch, delete]
- apiGroups: [networking.k8s.io]
  resources: [networkpolicies]
  verbs: [get, create, patch, delete]
- apiGroups: [""]
  resources: [events]
  verbs: [get, list, create, patch]  # list: warnings say why a pod does not start
- apiGroups: [kueue.x-k8s.io]
  resources: [workloads]
  verbs: [get]
- apiGroups: [scheduling.volcano.sh, scheduling.x-k8s.io]
  resources: [podgroups]
  verbs: [get, list, create, delete]
{{- end -}}

{{/* Only for the whole cluster: whether the node of a troubled pod still exists. */}}
{{- define "llmtrain.clusterRules" -}}
- apiGroups: [""]
  resources: [nodes]
  verbs: [get]
{{- end -}}
