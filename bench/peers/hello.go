// A Go function as a child of of-watchdog.
package main

import (
	"net/http"
	"os"
)

func main() {
	http.HandleFunc("/", func(w http.ResponseWriter, r *http.Request) {
		w.Header().Set("Content-Type", "text/plain; charset=utf-8")
		w.Write([]byte("hello\n"))
	})
	panic(http.ListenAndServe("127.0.0.1:"+os.Getenv("upstream_port"), nil))
}
