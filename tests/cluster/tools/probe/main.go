// probe is the one program of the test cluster's own image: it holds a pod sandbox open, and it lets two pods exchange bytes.
//
//	probe                                     waits for a signal (the sandbox image)
//	probe serve PORT                          answers every line with the same line and its own host name
//	probe exchange ADDRESS WORD               sends WORD until an answer comes, prints it, then waits for a signal
//	probe dial ADDRESS                        exits 0 when a TCP connection is made within 3 s, else 1
package main

import (
	"bufio"
	"fmt"
	"net"
	"os"
	"os/signal"
	"strings"
	"syscall"
	"time"
)

func main() {
	switch {
	case len(os.Args) == 3 && os.Args[1] == "serve":
		go serve(os.Args[2])
	case len(os.Args) == 4 && os.Args[1] == "exchange":
		go exchange(os.Args[2], os.Args[3])
	case len(os.Args) == 3 && os.Args[1] == "dial":
		os.Exit(dial(os.Args[2]))
	case len(os.Args) != 1:
		fmt.Fprintln(os.Stderr, "probe: unknown arguments", os.Args[1:])
		os.Exit(2)
	}
	stop := make(chan os.Signal, 1)
	signal.Notify(stop, syscall.SIGTERM, syscall.SIGINT)
	<-stop
}

func serve(port string) {
	listener, err := net.Listen("tcp", ":"+port)
	if err != nil {
		fail(err)
	}
	for {
		connection, err := listener.Accept()
		if err != nil {
			fail(err)
		}
		go answer(connection)
	}
}

func answer(connection net.Conn) {
	defer connection.Close()
	name, _ := os.Hostname()
	lines := bufio.NewScanner(connection)
	for lines.Scan() {
		fmt.Fprintf(connection, "%s from %s\n", lines.Text(), name)
	}
}

// exchange tries again for a minute: the peer's address appears in DNS when its pod is ready.
func exchange(address, word string) {
	for deadline := time.Now().Add(time.Minute); time.Now().Before(deadline); time.Sleep(100 * time.Millisecond) {
		connection, err := net.DialTimeout("tcp", address, time.Second)
		if err != nil {
			continue
		}
		fmt.Fprintln(connection, word)
		line, err := bufio.NewReader(connection).ReadString('\n')
		connection.Close()
		if err == nil {
			fmt.Println("answer:", strings.TrimSpace(line))
			return
		}
	}
	fail(fmt.Errorf("no answer from %s in a minute", address))
}

func dial(address string) int {
	connection, err := net.DialTimeout("tcp", address, 3*time.Second)
	if err != nil {
		fmt.Println(err)
		return 1
	}
	connection.Close()
	return 0
}

func fail(err error) {
	fmt.Fprintln(os.Stderr, "probe:", err)
	os.Exit(1)
}
