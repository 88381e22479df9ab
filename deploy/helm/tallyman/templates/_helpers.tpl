{{- define "tallyman.name" -}}
{{- .Release.Name | trunc 52 | trimSuffix "-" -}}
{{- end -}}

{{- define "tallyman.selector" -}}
app.kubernetes.io/name: tallyman
app.kubernetes.io/instance: {{ .Release.Name }}
{{- end -}}

{{- define "tallyman.labels" -}}
{{ include "tallyman.selector" . }}
app.kubernetes.io/version: {{ .Chart.AppVersion | quote }}
app.kubernetes.io/managed-by: {{ .Release.Service }}
helm.sh/chart: {{ printf "%s-%s" .Chart.Name .Chart.Version }}
{{- end -}}

{{- define "tallyman.serviceAccount" -}}
{{- .Values.serviceAccount.name | default (include "tallyman.name" .) -}}
{{- end -}}
