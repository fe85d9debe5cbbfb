# Counts the words of each text, all at the same time.
version 1.0

workflow words {
  input {
    Array[File] texts
  }
  scatter (text in texts) {
    call count { input: text = text }
  }
  output {
    Array[Int] counts = count.words
  }
}

task count {
  input {
    File text
  }
  command <<<
    wc -w < "~{text}"
  >>>
  output {
    Int words = read_int(stdout())
  }
  runtime {
    docker: "ubuntu"
  }
}
