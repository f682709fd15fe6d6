{{- define "proxmox-operator.name" -}}
{{- .Values.nameOverride | default .Chart.Name | trunc 63 | trimSuffix "-" }}
{{- end }}

{{- define "proxmox-operator.fullname" -}}
{{- $name := include "proxmox-operator.name" . }}
{{- if .Values.fullnameOverride }}
{{- .Values.fullnameOverride | trunc 63 | trimSuffix "-" }}
{{- else if contains $name .Release.Name }}
{{- .Release.Name | trunc 63 | trimSuffix "-" }}
{{- else }}
{{- printf "%s-%s" .Release.Name $name | trunc 63 | trimSuffix "-" }}
{{- end }}
{{- end }}

{{- define "proxmox-operator.serviceAccountName" -}}
{{- if .Values.serviceAccount.create }}
{{- .Values.serviceAccount.name | default (include "proxmox-operator.fullname" .) }}
{{- else }}
{{- required "serviceAccount.name is needed with serviceAccount.create=false" .Values.serviceAccount.name }}
{{- end }}
{{- end }}

{{- define "proxmox-operator.selectorLabels" -}}
app.kubernetes.io/name: {{ include "proxmox-operator.name" . }}
app.kubernetes.io/instance: {{ .Release.Name }}
{{- end }}

{{- define "proxmox-operator.labels" -}}
{{ include "proxmox-operator.selectorLabels" . }}
app.kubernetes.io/version: {{ .Chart.AppVersion | quote }}
app.kubernetes.io/managed-by: {{ .Release.Service }}
helm.sh/chart: {{ printf "%s-%s" .Chart.Name .Chart.Version | replace "+" "_" }}
{{- with .Values.commonLabels }}
{{ toYaml . }}
{{- end }}
{{- end }}

{{- define "proxmox-operator.image" -}}
{{- $name := .Values.image.repository }}
{{- with .Values.image.registry }}{{ $name = printf "%s/%s" . $name }}{{ end }}
{{- if .Values.image.digest }}
{{- printf "%s@%s" $name .Values.image.digest }}
{{- else }}
{{- printf "%s:%s" $name (.Values.image.tag | default .Chart.AppVersion) }}
{{- end }}
{{- end }}

{{- /* What the operator does with ProxmoxVMs and what belongs to them: in all namespaces, or in each of a list. */}}
{{- define "proxmox-operator.vmRules" -}}
- apiGroups: [proxmox-operator.io]
  resources: [proxmoxvms]
  verbs: [list, watch, patch]
- apiGroups: [proxmox-operator.io]
  resources: [proxmoxvms/status]
  verbs: [update]
# User data and such, which a ProxmoxVM names; by name only, never listed.
- apiGroups: [""]
  resources: [secrets]
  verbs: [get]
{{ include "proxmox-operator.eventRules" . }}
{{- end }}

{{- define "proxmox-operator.eventRules" -}}
- apiGroups: [events.k8s.io]
  resources: [events]
  verbs: [create, patch]
{{- end }}

{{- define "proxmox-operator.subject" -}}
- kind: ServiceAccount
  name: {{ include "proxmox-operator.serviceAccountName" . }}
  namespace: {{ .Release.Namespace }}
{{- end }}
