{{/* The settings that registration and guards depend on, with their defaults, as JSON. The rest goes to wif.yaml alone. */}}
{{- define "wif.webhook.settings" -}}
{{- $credentials := dict "identities" list "audience" "pods.eks.amazonaws.com" -}}
{{- $defaults := dict
  "dialects" (list "native" "pfn" "eks" "azure")
  "prefix" "wif.internal" "gcp_prefix" "cloud.google.com" "aws_prefix" "eks.amazonaws.com" "azure_prefix" "azure.workload.identity"
  "aws_audience" "sts.amazonaws.com" "gcp_audience" "sts.googleapis.com" "azure_audience" "api://AzureADTokenExchange"
  "cluster_domain" "cluster.local" "gcp_provider" nil "azure_token_endpoint" nil "aws_container_credentials" $credentials -}}
{{- mergeOverwrite $defaults (deepCopy .Values.webhook.settings) | toJson -}}
{{- end -}}

{{/* The settings as the webhook reads them. Sidecars are made of the release's own image, where they say no other. */}}
{{- define "wif.webhook.written" -}}
{{- $settings := deepCopy .Values.webhook.settings -}}
{{- if not (hasKey $settings "sidecar_image") -}}
{{- $settings = merge $settings (dict "sidecar_image" (include "wif.image" .) "sidecar_pull_policy" .Values.image.pullPolicy) -}}
{{- end -}}
{{- toYaml $settings -}}
{{- end -}}

{{/* A string as a CEL literal. What needs an escape besides these two, `wif webhook render` can write. */}}
{{- define "wif.webhook.literal" -}}
{{- if not (regexMatch "^[ -~]*$" .) -}}
{{- fail (printf "webhook.settings: %q is in an expression of the guards; the chart takes printable ASCII there" .) -}}
{{- end -}}
'{{ . | replace "\\" "\\\\" | replace "'" "\\'" }}'
{{- end -}}

{{/* Of everything of the cluster's: namespace and release are in it, so that several installs stand side by side. */}}
{{- define "wif.webhook.clusterName" -}}
{{ .Release.Namespace }}-{{ include "wif.webhook.name" . }}
{{- end -}}

{{/* Not cut to a length: a name that is cut could be another release's. */}}
{{- define "wif.webhook.name" -}}
{{- $name := printf "%s-webhook" .Release.Name -}}
{{- if gt (len $name) 63 -}}
{{- fail (printf "the release's name is too long: the webhook's Service would be %s, of more than 63 letters" $name) -}}
{{- end -}}
{{- $name -}}
{{- end -}}

{{/* The namespaces that are meant, as a LabelSelector. */}}
{{- define "wif.webhook.namespaceSelector" -}}
{{- $given := .Values.webhook.registration.namespaceSelector -}}
{{- $watched := .Values.webhook.watchNamespaces | uniq -}}
{{- $excluded := include "wif.webhook.excluded" . | fromJsonArray -}}
{{- $rows := list -}}
{{- if $watched -}}
{{- $rows = append $rows (dict "key" "kubernetes.io/metadata.name" "operator" "In" "values" $watched) -}}
{{- else if $excluded -}}
{{- $rows = append $rows (dict "key" "kubernetes.io/metadata.name" "operator" "NotIn" "values" $excluded) -}}
{{- end -}}
{{- $rows = concat $rows ($given.matchExpressions | default list) -}}
{{- $selector := dict -}}
{{- with $given.matchLabels }}{{- $_ := set $selector "matchLabels" . }}{{- end -}}
{{- with $rows }}{{- $_ := set $selector "matchExpressions" . }}{{- end -}}
{{- toYaml $selector -}}
{{- end -}}

{{/* The namespaces that are left out, as JSON. Under Fail the ones that the webhook itself needs must be among them. */}}
{{- define "wif.webhook.excluded" -}}
{{- $needed := list "kube-system" .Release.Namespace -}}
{{- $chosen := $needed -}}
{{- if not (kindIs "invalid" .Values.webhook.registration.excludedNamespaces) -}}
{{- $chosen = .Values.webhook.registration.excludedNamespaces -}}
{{- end -}}
{{- $excluded := list -}}
{{- range $chosen | uniq -}}
{{- if not (has . $.Values.webhook.watchNamespaces) }}{{- $excluded = append $excluded . }}{{- end -}}
{{- end -}}
{{- if eq .Values.webhook.registration.failurePolicy "Fail" -}}
{{- range $needed -}}
{{- if ternary (has . $.Values.webhook.watchNamespaces) (not (has . $excluded)) (gt (len $.Values.webhook.watchNamespaces) 0) -}}
{{- fail (printf "webhook.registration.failurePolicy is Fail: pods of %s would wait for the webhook, and it needs some of those itself; exclude that namespace, or use Ignore" .) -}}
{{- end -}}
{{- end -}}
{{- end -}}
{{- toJson $excluded -}}
{{- end -}}

{{/* CEL: whether an object carries an annotation of a dialect that is on. Takes settings and the object's variable. */}}
{{- define "wif.webhook.annotated" -}}
{{- $starts := list -}}
{{- range list (list "native" .settings.prefix) (list "pfn" .settings.gcp_prefix) (list "eks" .settings.aws_prefix) (list "azure" .settings.azure_prefix) -}}
{{- if has (first .) $.settings.dialects -}}
{{- $starts = append $starts (printf "k.startsWith(%s)" (include "wif.webhook.literal" (printf "%s/" (last .)))) -}}
{{- end -}}
{{- end -}}
has({{ .variable }}.metadata.annotations) && {{ .variable }}.metadata.annotations.exists(k, {{ join " || " $starts }})
{{- end -}}

{{/* The Secret that holds the certificate. */}}
{{- define "wif.webhook.secretName" -}}
{{- .Values.webhook.tls.secretName | default (printf "%s-tls" (include "wif.webhook.name" .)) -}}
{{- end -}}

{{/* The platform's ConfigMap; empty where there is none. */}}
{{- define "wif.webhook.platformName" -}}
{{- if and .Values.webhook.platform .Values.webhook.platformConfigMap -}}
{{- fail "webhook.platform and webhook.platformConfigMap: the one is a ConfigMap that the chart makes, the other one of yours; set one of them" -}}
{{- end -}}
{{- if .Values.webhook.platform -}}
{{ include "wif.webhook.name" . }}-platform
{{- else -}}
{{ .Values.webhook.platformConfigMap }}
{{- end -}}
{{- end -}}

{{- define "wif.webhook.notAMirrorPod" -}}
!has(request.userInfo.groups) || !('system:nodes' in request.userInfo.groups)
{{- end -}}

{{/* cert-manager writes the authority of this Certificate into the configuration. */}}
{{- define "wif.webhook.injectCa" -}}
{{- if eq .Values.webhook.tls.source "cert-manager" -}}
annotations:
  cert-manager.io/inject-ca-from: {{ .Release.Namespace }}/{{ include "wif.webhook.name" . }}
{{- end -}}
{{- end -}}

{{/* Where a webhook is and when it is called. Takes root, path and the selector of namespaces. */}}
{{- define "wif.webhook.call" -}}
{{- $registration := .root.Values.webhook.registration -}}
clientConfig:
  service:
    namespace: {{ .root.Release.Namespace }}
    name: {{ include "wif.webhook.name" .root }}
    path: {{ .path }}
    port: 443
  {{- if eq .root.Values.webhook.tls.source "secret" }}
  caBundle: {{ required "webhook.tls.caBundle is empty: with tls.source secret the API server must be told whom to trust (PEM)" (.root.Values.webhook.tls.caBundle | default nil) | b64enc }}
  {{- end }}
admissionReviewVersions: [v1]
sideEffects: NoneOnDryRun
failurePolicy: {{ $registration.failurePolicy }}
matchPolicy: {{ $registration.matchPolicy }}
timeoutSeconds: {{ $registration.timeoutSeconds }}
namespaceSelector: {{- .selector | nindent 2 }}
{{- end -}}

{{/* What the webhook does where pods are: no token, no Secret, nothing written but Events. */}}
{{- define "wif.webhook.reading" -}}
- apiGroups: [""]
  resources: [serviceaccounts]
  verbs: [get, list, watch]
# pods that should have been injected into and were not
- apiGroups: [""]
  resources: [pods]
  verbs: [list]
- apiGroups: [events.k8s.io]
  resources: [events]
  verbs: [create, patch]
{{- end -}}
