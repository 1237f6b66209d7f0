// Go's net/http: a goroutine and a channel for each stream. Commands as in `harness/control.py`.
//
// usage: net_http [CERTIFICATE KEY]
// With these files it uses TLS, and HTTP/2 if the client offers it.

package main

import (
	"bufio"
	"encoding/json"
	"fmt"
	"net"
	"net/http"
	"os"
	"runtime"
	"runtime/debug"
	"strconv"
	"strings"
	"sync"
	"syscall"
	"time"
	_ "unsafe"
)

//go:linkname nanotime runtime.nanotime
func nanotime() int64

const size = 100

type message struct {
	number int
	data   string
}

var (
	mutex   sync.Mutex
	clients = map[chan message]struct{}{}
	gates   = map[chan int]struct{}{}
	number  int
	data    = strings.Repeat("x", size)
)

func publish(data string) {
	mutex.Lock()
	defer mutex.Unlock()
	number++
	for client := range clients {
		client <- message{number, data}
	}
}

func begin(writer http.ResponseWriter) http.Flusher {
	writer.Header().Set("Content-Type", "text/event-stream")
	writer.Header().Set("Cache-Control", "no-cache")
	flusher := writer.(http.Flusher)
	flusher.Flush()
	return flusher
}

func updates(writer http.ResponseWriter, request *http.Request) {
	client := make(chan message, 64)
	mutex.Lock()
	clients[client] = struct{}{}
	mutex.Unlock()
	defer func() {
		mutex.Lock()
		delete(clients, client)
		mutex.Unlock()
	}()
	flusher := begin(writer)
	for {
		select {
		case <-request.Context().Done():
			return
		case message := <-client:
			fmt.Fprintf(writer, "id: %d\ndata: %s\n\n", message.number, message.data)
			flusher.Flush()
		}
	}
}

func own(writer http.ResponseWriter, request *http.Request) {
	gate := make(chan int, 1)
	mutex.Lock()
	gates[gate] = struct{}{}
	mutex.Unlock()
	flusher := begin(writer)
	sent := 0
	for {
		select {
		case <-request.Context().Done():
			return
		case count := <-gate:
			for i := 0; i < count; i++ {
				sent++
				fmt.Fprintf(writer, "id: %d\ndata: %s\n\n", sent, data)
				flusher.Flush()
			}
		}
	}
}

func answer(reply string, values map[string]any) {
	if values == nil {
		values = map[string]any{}
	}
	values["reply"] = reply
	encoded, _ := json.Marshal(values)
	fmt.Println(string(encoded))
}

func pss() int {
	rollup, _ := os.ReadFile("/proc/self/smaps_rollup")
	for _, line := range strings.Split(string(rollup), "\n") {
		if fields := strings.Fields(line); len(fields) > 1 && fields[0] == "Pss:" {
			kib, _ := strconv.Atoi(fields[1])
			return kib * 1024
		}
	}
	return 0
}

func seconds(time syscall.Timeval) float64 { return float64(time.Sec) + float64(time.Usec)/1e6 }

func main() {
	runtime.GOMAXPROCS(1)
	var limit syscall.Rlimit
	syscall.Getrlimit(syscall.RLIMIT_NOFILE, &limit)
	limit.Cur = limit.Max
	syscall.Setrlimit(syscall.RLIMIT_NOFILE, &limit)
	listener, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		panic(err)
	}
	http.HandleFunc("/updates", updates)
	http.HandleFunc("/own", own)
	if len(os.Args) > 2 {
		go http.ServeTLS(listener, nil, os.Args[1], os.Args[2])
	} else {
		go http.Serve(listener, nil)
	}
	answer("listening", map[string]any{"port": listener.Addr().(*net.TCPAddr).Port})

	lines := bufio.NewScanner(os.Stdin)
	for lines.Scan() {
		words := strings.Fields(lines.Text())
		count, milliseconds := 0, 0
		if len(words) > 1 {
			count, _ = strconv.Atoi(words[1])
		}
		if len(words) > 2 {
			milliseconds, _ = strconv.Atoi(words[2])
		}
		switch words[0] {
		case "burst":
			for i := 0; i < count; i++ {
				publish(data)
			}
			answer("burst", nil)
		case "steady", "stamped":
			start := time.Now()
			for i := 1; i <= count; i++ {
				if words[0] == "stamped" {
					stamp := fmt.Sprintf("%020d", nanotime())
					publish(stamp + data[len(stamp):])
				} else {
					publish(data)
				}
				time.Sleep(time.Until(start.Add(time.Duration(i*milliseconds) * time.Millisecond)))
			}
			answer(words[0], nil)
		case "own":
			mutex.Lock()
			for gate := range gates {
				gate <- count
			}
			mutex.Unlock()
			answer("own", nil)
		case "cpu":
			var usage syscall.Rusage
			syscall.Getrusage(syscall.RUSAGE_SELF, &usage)
			answer("cpu", map[string]any{"user_seconds": seconds(usage.Utime), "system_seconds": seconds(usage.Stime)})
		case "memory":
			debug.FreeOSMemory()
			answer("memory", map[string]any{"pss_bytes": pss()})
		case "quit":
			return
		default:
			answer("refused", map[string]any{"error": "no such command: " + lines.Text()})
		}
	}
}
