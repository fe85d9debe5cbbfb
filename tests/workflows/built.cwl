# Brings the Dockerfile of its image along.
cwlVersion: v1.2
class: CommandLineTool
requirements:
  DockerRequirement:
    dockerImageId: lab/built
    dockerFile: |
      FROM busybox
      RUN echo "built by $(id -u)" > /answer
inputs: []
baseCommand: [cat, /answer]
stdout: answer
outputs: {answer: stdout}
