# A task that fails.
version 1.0

task failure {
  command <<<
    echo in vain >&2
    exit 42
  >>>
  runtime {
    docker: "ubuntu"
  }
}
