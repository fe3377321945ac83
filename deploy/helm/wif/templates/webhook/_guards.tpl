{{/* CEL of the guards, as wif/admission/guards.py makes it: a test holds the two together for every set of dialects. */}}

{{/* A regular expression for whole keys of annotations that give an identity, as a literal. Takes settings. */}}
{{- define "wif.webhook.identityKeys" -}}
{{- $identity := "[a-z0-9]([a-z0-9-]{0,30}[a-z0-9])?" -}}
{{- $native := list -}}
{{- range list (list "aws" "role-arn") (list "gcp" "provider|service-account|direct") (list "azure" "client-id") -}}
{{- $native = append $native (printf "%s(\\.%s)?\\.(%s)" (first .) $identity (last .)) -}}
{{- end -}}
{{- $patterns := list -}}
{{- range list
  (list "native" .prefix (printf "(%s)" (join "|" $native)))
  (list "pfn" .gcp_prefix "(workload-identity-provider|service-account-email)")
  (list "eks" .aws_prefix "role-arn")
  (list "azure" .azure_prefix "(client-id|tenant-id)") -}}
{{- if has (first .) $.dialects -}}
{{- $prefix := index . 1 | replace "." "\\." | replace "-" "\\-" -}}
{{- $patterns = append $patterns (printf "%s/%s" $prefix (last .)) -}}
{{- end -}}
{{- end -}}
{{- include "wif.webhook.literal" (printf "^(%s)$" (join "|" $patterns)) -}}
{{- end -}}

{{- define "wif.webhook.givesIdentity" -}}
has(object.metadata.annotations) && object.metadata.annotations.exists(k, k.matches({{ include "wif.webhook.identityKeys" . }}) && object.metadata.annotations[k] != '')
{{- end -}}

{{/* Whether a pod skips each of its containers. Takes prefix and separator. */}}
{{- define "wif.webhook.skipsAll" -}}
{{- $key := include "wif.webhook.literal" (printf "%s/skip-containers" .prefix) -}}
{{ $key }} in variables.pod && variables.containers.all(n, variables.pod[{{ $key }}].split('{{ .separator }}').exists(s, s.trim() == n))
{{- end -}}

{{/* Whether a ServiceAccount names an identity of a cloud that the pod does not do without. Takes settings, cloud, peer. */}}
{{- define "wif.webhook.asked" -}}
{{- $rows := list -}}
{{- if has "native" .settings.dialects -}}
{{- $rows = append $rows (printf "(%s)" (include "wif.webhook.nativeAsks" .)) -}}
{{- end -}}
{{- if has .peer .settings.dialects -}}
{{- $rows = append $rows (printf "(%s)" (include (printf "wif.webhook.%sAsks" .peer) .settings)) -}}
{{- end -}}
{{- join " || " $rows -}}
{{- end -}}

{{- define "wif.webhook.nativeAsks" -}}
{{- $triggers := get (dict "aws" (list "role-arn") "gcp" (list "provider") "azure" (list "client-id")) .cloud -}}
{{- if and (eq .cloud "gcp") (not (kindIs "invalid" .settings.gcp_provider)) -}}
{{- $triggers = list "provider" "service-account" "direct" -}}
{{- end -}}
{{- $ends := list -}}
{{- range $triggers }}{{- $ends = append $ends (printf "k.endsWith('.%s')" .) }}{{- end -}}
{{- $start := include "wif.webhook.literal" (printf "%s/%s." .settings.prefix .cloud) -}}
{{- $use := include "wif.webhook.literal" (printf "%s/use" .settings.prefix) -}}
variables.account.exists(k, k.startsWith({{ $start }}) && ({{ join " || " $ends }}) && variables.account[k] != '') && !({{ $use }} in variables.pod && variables.pod[{{ $use }}].split(',').exists(u, u.trim() == '{{ .cloud }}=none')) && !({{ include "wif.webhook.skipsAll" (dict "prefix" .settings.prefix "separator" ",") }})
{{- end -}}

{{- define "wif.webhook.eksAsks" -}}
{{- $role := include "wif.webhook.literal" (printf "%s/role-arn" .aws_prefix) -}}
{{ $role }} in variables.account && variables.account[{{ $role }}] != '' && !('eks.amazonaws.com/skip-pod-identity-webhook' in variables.labels) && !({{ include "wif.webhook.skipsAll" (dict "prefix" .aws_prefix "separator" ",") }})
{{- end -}}

{{- define "wif.webhook.pfnAsks" -}}
{{- $provider := include "wif.webhook.literal" (printf "%s/workload-identity-provider" .gcp_prefix) -}}
{{ $provider }} in variables.account && variables.account[{{ $provider }}] != '' && !({{ include "wif.webhook.skipsAll" (dict "prefix" .gcp_prefix "separator" ",") }})
{{- end -}}

{{/* The one dialect in which the pod has to ask, by a label. */}}
{{- define "wif.webhook.azureAsks" -}}
{{- $start := include "wif.webhook.literal" (printf "%s/" .azure_prefix) -}}
{{- $use := include "wif.webhook.literal" (printf "%s/use" .azure_prefix) -}}
variables.account.exists(k, k.startsWith({{ $start }})) && {{ $use }} in variables.labels && variables.labels[{{ $use }}] == 'true' && !({{ include "wif.webhook.skipsAll" (dict "prefix" .azure_prefix "separator" ";") }})
{{- end -}}

{{/* The audiences that a cloud's tokens may have. Takes settings, cloud, peer. */}}
{{- define "wif.webhook.audiences" -}}
{{- $known := list (get .settings (printf "%s_audience" .cloud)) -}}
{{- if and (eq .cloud "aws") .settings.aws_container_credentials.identities -}}
{{- $known = append $known .settings.aws_container_credentials.audience -}}
{{- end -}}
{{- if and (eq .cloud "azure") .settings.azure_token_endpoint -}}
{{- $known = append $known .settings.azure_token_endpoint.audience -}}
{{- end -}}
{{- $literals := list -}}
{{- range $known }}{{- $literals = append $literals (include "wif.webhook.literal" .) }}{{- end -}}
{{- $start := include "wif.webhook.literal" (printf "%s/%s." .settings.prefix .cloud) -}}
{{- $chosen := printf "k.startsWith(%s) && k.endsWith('.audience')" $start -}}
{{- if and (has .peer .settings.dialects) (ne .peer "azure") -}}
{{- $prefix := get .settings (ternary "aws_prefix" "gcp_prefix" (eq .peer "eks")) -}}
{{- $chosen = printf "(%s) || k == %s" $chosen (include "wif.webhook.literal" (printf "%s/audience" $prefix)) -}}
{{- end -}}
[{{ join ", " $literals }}] + variables.account.filter(k, {{ $chosen }}).map(k, variables.account[k])
{{- end -}}

{{/* Name, labels and a policy's binding. Takes root, suffix, actions and, where there is one, paramRef. */}}
{{- define "wif.webhook.binding" -}}
apiVersion: admissionregistration.k8s.io/v1
kind: ValidatingAdmissionPolicyBinding
metadata: {{- include "wif.webhook.guardMetadata" . | nindent 2 }}
spec:
  policyName: {{ include "wif.webhook.clusterName" .root }}-{{ .suffix }}
  {{- with .paramRef }}
  paramRef: {{- toYaml . | nindent 4 }}
  {{- end }}
  validationActions: {{ toJson .actions }}
{{- end -}}

{{- define "wif.webhook.guardMetadata" -}}
name: {{ include "wif.webhook.clusterName" .root }}-{{ .suffix }}
labels: {{- include "wif.labels" (dict "root" .root "part" "webhook") | nindent 2 }}
{{- end -}}
