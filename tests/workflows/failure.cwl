# A step that fails.
cwlVersion: v1.2
class: CommandLineTool
requirements:
  DockerRequirement: {dockerPull: busybox}
inputs: []
arguments: [sh, -c, "echo in vain >&2; exit 42"]
outputs: []
