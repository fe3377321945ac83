{{- define "wif.name" -}}
{{- printf "%s-%s" .root.Release.Name .part | trunc 63 | trimSuffix "-" -}}
{{- end -}}

{{/* Selectors never change; labels carry what helps to find and to upgrade. */}}
{{- define "wif.selector" -}}
app.kubernetes.io/name: wif
app.kubernetes.io/instance: {{ .root.Release.Name }}
app.kubernetes.io/component: {{ .part }}
{{- end -}}

{{- define "wif.labels" -}}
{{ include "wif.selector" . }}
app.kubernetes.io/managed-by: {{ .root.Release.Service }}
app.kubernetes.io/part-of: wif
{{- with .root.Values.commonLabels }}
{{ toYaml . }}
{{- end }}
{{- end -}}

{{- define "wif.image" -}}
{{- $image := .Values.image -}}
{{- if $image.digest -}}
{{ $image.repository }}@{{ $image.digest }}
{{- else -}}
{{ $image.repository }}:{{ $image.tag | default .Chart.AppVersion }}
{{- end -}}
{{- end -}}

{{/* What pod security "restricted" asks for, and a file system that nobody writes to. */}}
{{- define "wif.podSecurity" -}}
runAsNonRoot: true
runAsUser: 65532
runAsGroup: 65532
fsGroup: 65532
seccompProfile:
  type: RuntimeDefault
{{- end -}}

{{- define "wif.containerSecurity" -}}
allowPrivilegeEscalation: false
readOnlyRootFilesystem: true
capabilities:
  drop: [ALL]
{{- end -}}

{{- define "wif.scheduling" -}}
{{- with .priorityClassName }}
priorityClassName: {{ . }}
{{- end }}
{{- with .nodeSelector }}
nodeSelector: {{- toYaml . | nindent 2 }}
{{- end }}
{{- with .tolerations }}
tolerations: {{- toYaml . | nindent 2 }}
{{- end }}
{{- with .affinity }}
affinity: {{- toYaml . | nindent 2 }}
{{- end }}
{{- end -}}

{{/* The state's ConfigMaps that this chart makes, as JSON: one for one issuer, else one each; not where `state` is set. */}}
{{- define "wif.stateNames" -}}
{{- $names := list -}}
{{- range $issuer, $settings := .Values.publisher.issuers -}}
{{- if not $settings.state -}}
{{- if gt (len $.Values.publisher.issuers) 1 -}}
{{- $names = append $names (printf "%s-%s" $.Values.publisher.state.name $issuer) -}}
{{- else -}}
{{- $names = append $names $.Values.publisher.state.name -}}
{{- end -}}
{{- end -}}
{{- end -}}
{{- toJson $names -}}
{{- end -}}
