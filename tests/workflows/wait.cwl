# Waits until it is ended, at the latest by the engine when its time is over.
cwlVersion: v1.2
class: CommandLineTool
requirements:
  DockerRequirement: {dockerPull: busybox}
  NetworkAccess: {networkAccess: true}
  ToolTimeLimit: {timelimit: $(inputs.limit)}
inputs:
  seconds: long
  port: int
  limit: {type: long, default: 0}
arguments: [sh, -c, 'sleep $0 | nc 127.0.0.1 $1; echo never', $(inputs.seconds), $(inputs.port)]
stdout: out
outputs: []
