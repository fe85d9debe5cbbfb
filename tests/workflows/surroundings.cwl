# Shows what a command finds around it: a variable, standard input, a directory, files of the workflow, the network.
cwlVersion: v1.2
class: CommandLineTool
requirements:
  DockerRequirement: {dockerPull: busybox}
  ShellCommandRequirement: {}
  NetworkAccess: {networkAccess: true}
  EnvVarRequirement:
    envDef: {GREETING: "hello = $(inputs.name)"}
  InitialWorkDirRequirement:
    listing:
      - {entryname: settings, entry: "of $(inputs.name)\n"}
      - {entry: $(inputs.text), entryname: copy, writable: true}
inputs:
  name: string
  text: File
  texts: Directory
  url: string
stdin: $(inputs.text.path)
stdout: shown
arguments:
  - {shellQuote: false, valueFrom: 'echo "$GREETING"; cat; cat settings; echo more >> copy; cat copy;'}
  - {shellQuote: false, valueFrom: 'ls $(inputs.texts.path); test "$HOME" = "$PWD" && test "$TMPDIR" = /tmp && touch /tmp/x &&'}
  - {shellQuote: false, valueFrom: 'wget -q -O - $(inputs.url)'}
outputs:
  shown: stdout
  copy: {type: File, outputBinding: {glob: copy}}
