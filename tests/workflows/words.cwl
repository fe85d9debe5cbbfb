# Counts the words of each text, all at the same time, and puts the counts together.
cwlVersion: v1.2
class: Workflow
requirements:
  ScatterFeatureRequirement: {}
  DockerRequirement: {dockerPull: busybox}
inputs:
  texts: File[]
steps:
  count:
    scatter: text
    in: {text: texts}
    out: [words]
    run:
      class: CommandLineTool
      inputs:
        text: {type: File, inputBinding: {}}
      baseCommand: [wc, -w]
      stdout: words
      outputs:
        words: stdout
  join:
    in: {counts: count/words}
    out: [all]
    run:
      class: CommandLineTool
      inputs:
        counts: {type: "File[]", inputBinding: {}}
      baseCommand: cat
      stdout: all
      outputs:
        all: stdout
outputs:
  all: {type: File, outputSource: join/all}
