# Waits until it is ended.
version 1.0

task wait {
  input {
    Int seconds
    Int port
  }
  command <<<
    sleep ~{seconds} | nc 127.0.0.1 ~{port}
    echo never
  >>>
  runtime {
    docker: "ubuntu"
  }
}
