{{/* Names, labels and images that several templates share. */}}

{{- define "llmtrain.fullname" -}}
{{- $name := ternary .Release.Name (printf "%s-%s" .Release.Name .Chart.Name) (contains .Chart.Name .Release.Name) -}}
{{- default $name .Values.fullnameOverride | trunc 40 | trimSuffix "-" -}}
{{- end -}}

{{/* Name of cluster-wide objects: releases with the same name in two namespaces do not collide. */}}
{{- define "llmtrain.clusterName" -}}
{{- printf "%s-%s" .Release.Namespace (include "llmtrain.fullname" .) | trunc 100 -}}
{{- end -}}

{{- define "llmtrain.serviceAccount" -}}
{{- if .Values.serviceAccount.create -}}
{{- default (include "llmtrain.fullname" .) .Values.serviceAccount.name -}}
{{- else -}}
{{- required "serviceAccount.name: name the ServiceAccount, or set serviceAccount.create" .Values.serviceAccount.name -}}
{{- end -}}
{{- end -}}

{{- define "llmtrain.selector" -}}
app.kubernetes.io/name: {{ .Chart.Name }}
app.kubernetes.io/instance: {{ .Release.Name }}
app.kubernetes.io/component: operator
{{- end -}}

{{- define "llmtrain.labels" -}}
{{ include "llmtrain.selector" . }}
app.kubernetes.io/version: {{ .Chart.AppVersion | quote }}
app.kubernetes.io/managed-by: {{ .Release.Service }}
helm.sh/chart: {{ .Chart.Name }}-{{ .Chart.Version | replace "+" "_" }}
{{- end -}}

{{- define "llmtrain.webhookService" -}}
{{ include "llmtrain.fullname" . }}-webhook
{{- end -}}

{{/* The Secret with tls.crt and tls.key. */}}
{{- define "llmtrain.webhookSecret" -}}
{{- if eq .Values.webhook.certificates.mode "existing" -}}
{{- required "webhook.certificates.secretName: mode existing needs the name of the Secret" .Values.webhook.certificates.secretName -}}
{{- else -}}
{{- include "llmtrain.fullname" . }}-webhook-tls
{{- end -}}
{{- end -}}

{{/* Labels of the objects of `helm test`: not those by which the operator's pods are selected. */}}
{{- define "llmtrain.testLabels" -}}
app.kubernetes.io/name: {{ .Chart.Name }}
app.kubernetes.io/instance: {{ .Release.Name }}
app.kubernetes.io/component: test
{{- end -}}

{{- define "llmtrain.image" -}}
{{- include "llmtrain.imageOf" (dict "given" .Values.image "name" "operator" "root" .) -}}
{{- end -}}

{{- define "llmtrain.trainerImage" -}}
{{- include "llmtrain.imageOf" (dict "given" .Values.trainerImage "name" "trainer" "root" .) -}}
{{- end -}}

{{- define "llmtrain.imageOf" -}}
{{- $registry := .root.Values.imageRegistry -}}
{{- $default := printf "%sllmtrain/%s:%s" (ternary (printf "%s/" $registry) "" (ne $registry "")) .name .root.Chart.AppVersion -}}
{{- default $default .given -}}
{{- end -}}
