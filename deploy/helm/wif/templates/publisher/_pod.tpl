{{/* The pod of the publisher, for the Deployment and for the CronJob. Takes root, args, and whether it is probed. */}}
{{- define "wif.publisherPod" -}}
{{- $publisher := .root.Values.publisher -}}
{{- $name := include "wif.name" (dict "root" .root "part" "publisher") -}}
metadata:
  labels:
    {{- include "wif.labels" (dict "root" .root "part" "publisher") | nindent 4 }}
    {{- with $publisher.podLabels }}
    {{- toYaml . | nindent 4 }}
    {{- end }}
  annotations:
    checksum/issuers: {{ $publisher.issuers | toJson | sha256sum }}
    {{- with $publisher.podAnnotations }}
    {{- toYaml . | nindent 4 }}
    {{- end }}
spec:
  serviceAccountName: {{ $name }}
  automountServiceAccountToken: true
  enableServiceLinks: false
  terminationGracePeriodSeconds: 30
  {{- if not .probed }}
  restartPolicy: Never
  {{- end }}
  securityContext: {{- include "wif.podSecurity" . | nindent 4 }}
  {{- with .root.Values.imagePullSecrets }}
  imagePullSecrets: {{- toYaml . | nindent 4 }}
  {{- end }}
  {{- include "wif.scheduling" $publisher | nindent 2 }}
  {{- if and .probed (not $publisher.affinity) }}
  topologySpreadConstraints:
    - maxSkew: 1
      topologyKey: kubernetes.io/hostname
      whenUnsatisfiable: ScheduleAnyway
      labelSelector:
        matchLabels: {{- include "wif.selector" (dict "root" .root "part" "publisher") | nindent 10 }}
  {{- end }}
  containers:
    - name: publisher
      image: {{ include "wif.image" .root }}
      imagePullPolicy: {{ .root.Values.image.pullPolicy }}
      args: {{- toYaml (concat .args $publisher.extraArgs) | nindent 8 }}
      env:
        - name: POD_NAME
          valueFrom: {fieldRef: {fieldPath: metadata.name}}
        - name: POD_NAMESPACE
          valueFrom: {fieldRef: {fieldPath: metadata.namespace}}
        {{- with $publisher.env }}
        {{- toYaml . | nindent 8 }}
        {{- end }}
      {{- with $publisher.envFrom }}
      envFrom: {{- toYaml . | nindent 8 }}
      {{- end }}
      {{- if .probed }}
      ports:
        - {name: health, containerPort: {{ .root.Values.health.port }}}
      livenessProbe:
        httpGet: {path: /healthz, port: health}
        periodSeconds: 10
        failureThreshold: 6
      readinessProbe:
        httpGet: {path: /readyz, port: health}
        periodSeconds: 5
      {{- end }}
      resources: {{- toYaml $publisher.resources | nindent 8 }}
      securityContext: {{- include "wif.containerSecurity" . | nindent 8 }}
      volumeMounts:
        - {name: config, mountPath: /etc/wif, readOnly: true}
        {{- range $publisher.tokens }}
        - {name: token-{{ .name }}, mountPath: /var/run/secrets/wif/{{ .name }}, readOnly: true}
        {{- end }}
        {{- with $publisher.extraVolumeMounts }}
        {{- toYaml . | nindent 8 }}
        {{- end }}
  volumes:
    - name: config
      configMap: {name: {{ $name }}-config}
    {{- range $publisher.tokens }}
    - name: token-{{ .name }}
      projected:
        defaultMode: 0440
        sources:
          - serviceAccountToken:
              audience: {{ .audience | quote }}
              expirationSeconds: {{ .expirationSeconds | default 3600 }}
              path: token
    {{- end }}
    {{- with $publisher.extraVolumes }}
    {{- toYaml . | nindent 4 }}
    {{- end }}
{{- end -}}
