{{- define "proxmox-operator.name" -}}
{{- .Values.nameOverride | default .Chart.Name | trunc 55 | trimSuffix "-" }}
{{- end }}

{{- /* At most 55 characters: suffixes are put to it. */}}
{{- define "proxmox-operator.fullname" -}}
{{- $name := include "proxmox-operator.name" . }}
{{- if .Values.fullnameOverride }}
{{- .Values.fullnameOverride | trunc 55 | trimSuffix "-" }}
{{- else if contains $name .Release.Name }}
{{- .Release.Name | trunc 55 | trimSuffix "-" }}
{{- else }}
{{- printf "%s-%s" .Release.Name $name | trunc 55 | trimSuffix "-" }}
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
app.kubernetes.io/name: {{ include "proxmox-operator.name" . | quote }}
app.kubernetes.io/instance: {{ .Release.Name | quote }}
{{- end }}

{{- define "proxmox-operator.labels" -}}
{{ include "proxmox-operator.labelsWith" (list . dict) }}
{{- end }}

{{- /* The labels of an object with some of its own, as (list $ labels): a key twice is no YAML, and ours select the pods. */}}
{{- define "proxmox-operator.labelsWith" -}}
{{- $root := first . }}
{{- $ours := include "proxmox-operator.selectorLabels" $root | fromYaml }}
{{- $_ := set $ours "app.kubernetes.io/version" $root.Chart.AppVersion }}
{{- $_ := set $ours "app.kubernetes.io/managed-by" $root.Release.Service }}
{{- $_ := set $ours "helm.sh/chart" (printf "%s-%s" $root.Chart.Name $root.Chart.Version | replace "+" "_") }}
{{- merge $ours (last .) $root.Values.commonLabels | toYaml }}
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

{{- /* The same whatever the release is called: two operators of one namespace must not both lead. */}}
{{- define "proxmox-operator.lease" -}}
proxmox-operator
{{- end }}

{{- define "proxmox-operator.subject" -}}
- kind: ServiceAccount
  name: {{ include "proxmox-operator.serviceAccountName" . | quote }}
  namespace: {{ .Release.Namespace | quote }}
{{- end }}
