{{/*
Named templates for an application's own chart (../README.md shows one). All take a dict:

  image      required, with its tag
  configMap  required, the name of a ConfigMap with tallyman.toml
  socket     true: a Unix socket in a volume that the application mounts, too; else the pod's loopback address
  resources  what the container asks for, if not the defaults
  storage    the claim's size, 10Gi by default

ONE AGENT OWNS A PRODUCT'S CUSTOMERS. More than one replica with an agent each is right only if each customer's usage
always goes to one and the same replica. AWS keeps the first amount that it hears for a customer and hour, and drops the
others. Use it with a StatefulSet, whose replicas keep their volumes, or with a Deployment of one replica and the
strategy Recreate. The pod needs an fsGroup, and 37 seconds more than the application to end.
*/}}

{{/* For spec.template.spec.initContainers: with `restartPolicy: Always` it runs as a sidecar. */}}
{{- define "tallyman.sidecar.container" -}}
- name: tallyman
  image: {{ required "tallyman.sidecar: image" .image | quote }}
  restartPolicy: Always
  args: ["run", "--config", "/etc/tallyman/tallyman.toml", "--log-format", "json"]
  env:
    {{- if .socket }}
    - name: TALLYMAN__GRPC__LISTEN
      value: unix:/run/tallyman/tallyman.sock
    - name: TALLYMAN_ADDRESS
      value: unix:/run/tallyman/tallyman.sock
    {{- end }}
    - name: TALLYMAN__AGENT__ID
      valueFrom:
        fieldRef:
          fieldPath: metadata.name
    - name: TALLYMAN__ADMIN__LISTEN
      value: 0.0.0.0:7451
  ports:
    - name: tallyman-admin
      containerPort: 7451
  startupProbe:
    httpGet:
      path: /readyz
      port: tallyman-admin
    periodSeconds: 2
    failureThreshold: 150
  livenessProbe:
    httpGet:
      path: /livez
      port: tallyman-admin
    periodSeconds: 10
    timeoutSeconds: 5
    failureThreshold: 6
  resources:
    {{- if .resources }}
    {{- toYaml .resources | nindent 4 }}
    {{- else }}
    requests:
      cpu: 50m
      memory: 128Mi
    limits:
      cpu: "1"
      memory: 512Mi
    {{- end }}
  securityContext:
    runAsUser: 65532
    runAsGroup: 65532
    runAsNonRoot: true
    allowPrivilegeEscalation: false
    readOnlyRootFilesystem: true
    capabilities:
      drop: ["ALL"]
    seccompProfile:
      type: RuntimeDefault
  volumeMounts:
    {{- if .socket }}
    - name: tallyman-socket
      mountPath: /run/tallyman
    {{- end }}
    - name: tallyman-config
      mountPath: /etc/tallyman
      readOnly: true
    - name: tallyman-data
      mountPath: /var/lib/tallyman
{{- end -}}

{{/* For spec.template.spec.volumes. */}}
{{- define "tallyman.sidecar.volumes" -}}
{{- if .socket }}
- name: tallyman-socket
  emptyDir:
    medium: Memory
    sizeLimit: 1Mi
{{- end }}
- name: tallyman-config
  configMap:
    name: {{ required "tallyman.sidecar: configMap" .configMap }}
{{- end -}}

{{/* For a StatefulSet's spec.volumeClaimTemplates. */}}
{{- define "tallyman.sidecar.claim" -}}
- metadata:
    name: tallyman-data
  spec:
    accessModes: ["ReadWriteOncePod"]
    resources:
      requests:
        storage: {{ .storage | default "10Gi" }}
{{- end -}}
