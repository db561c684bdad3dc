{{- define "external-lb.name" -}}
{{ default .Chart.Name .Values.nameOverride | trunc 63 | trimSuffix "-" }}
{{- end }}

{{- /* The objects are called after the release, and after the chart where that does not say it. 55 leave room for -metrics. */}}
{{- define "external-lb.fullname" -}}
{{- $name := include "external-lb.name" . }}
{{- $release := contains $name .Release.Name | ternary .Release.Name (printf "%s-%s" .Release.Name $name) }}
{{- default $release .Values.fullnameOverride | trunc 55 | trimSuffix "-" }}
{{- end }}

{{- define "external-lb.serviceAccountName" -}}
{{- $made := .Values.serviceAccount.create | ternary (include "external-lb.fullname" .) "default" }}
{{- default $made .Values.serviceAccount.name }}
{{- end }}

{{- /* Managers are told by one label, as those of config/default are. */}}
{{- define "external-lb.selectorLabels" -}}
app.kubernetes.io/name: {{ include "external-lb.name" . }}
{{- end }}

{{- define "external-lb.labels" -}}
{{ include "external-lb.selectorLabels" . }}
app.kubernetes.io/instance: {{ .Release.Name }}
app.kubernetes.io/managed-by: {{ .Release.Service }}
app.kubernetes.io/version: {{ .Chart.AppVersion | replace "+" "_" | trunc 63 | trimSuffix "-" | quote }}
helm.sh/chart: {{ printf "%s-%s" .Chart.Name .Chart.Version | replace "+" "_" | trunc 63 | trimSuffix "-" }}
{{- with .Values.commonLabels }}
{{ toYaml . }}
{{- end }}
{{- end }}

{{- define "external-lb.image" -}}
{{- with .Values.image }}
{{- .repository }}{{ if .digest }}@{{ .digest }}{{ else }}:{{ default $.Chart.AppVersion .tag }}{{ end }}
{{- end }}
{{- end }}

{{- /*
Prints the roles and bindings of files/, which are those of config/, under the release's names.
Takes the root as "root" and the files as "glob".
*/}}
{{- define "external-lb.roles" -}}
{{- $root := .root }}
{{- $fullname := include "external-lb.fullname" $root }}
{{- range $path, $_ := $root.Files.Glob .glob }}
{{- range regexSplit "(?m)^---$" ($root.Files.Get $path) -1 }}
{{- with fromYaml . }}
{{- $labels := include "external-lb.labels" $root | fromYaml }}
{{- $_ := set .metadata "labels" (merge (default dict .metadata.labels) $labels) }}
{{- $_ := set .metadata "name" (regexReplaceAll "^external-lb" .metadata.name $fullname) }}
{{- if .metadata.namespace }}
{{- $_ := set .metadata "namespace" $root.Release.Namespace }}
{{- end }}
{{- with .roleRef }}
{{- $_ := set . "name" (regexReplaceAll "^external-lb" .name $fullname) }}
{{- end }}
{{- range .subjects }}
{{- $_ := set . "name" (include "external-lb.serviceAccountName" $root) }}
{{- $_ := set . "namespace" $root.Release.Namespace }}
{{- end }}
---
{{ toYaml . }}
{{ end }}
{{- end }}
{{- end }}
{{- end }}

{{- /* Nine tenths of the limit leave room for what is not Go's heap. */}}
{{- define "external-lb.goMemLimit" -}}
{{- $limit := dig "limits" "memory" "" (default dict .Values.resources) }}
{{- if .Values.goMemLimit }}
{{- .Values.goMemLimit }}
{{- else if $limit }}
{{- $limit = kindIs "string" $limit | ternary $limit (printf "%.0f" (float64 $limit)) }}
{{- $parts := regexSplit "^([0-9.]+)" $limit -1 }}
{{- $units := dict "" 1 "k" 1e3 "M" 1e6 "G" 1e9 "T" 1e12 "Ki" 1024 "Mi" 1048576 "Gi" 1073741824 "Ti" 1099511627776 }}
{{- $unit := last $parts }}
{{- if not (hasKey $units $unit) }}
{{- fail (printf "goMemLimit: say it, since resources.limits.memory is %s" $limit) }}
{{- end }}
{{- $bytes := mulf (regexFind "^[0-9.]+" $limit) (get $units $unit) }}
{{- printf "%.0fMiB" (floor (divf (mulf $bytes 0.9) 1048576)) }}
{{- end }}
{{- end }}
