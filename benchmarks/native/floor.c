/* The floor: the cost of a broadcast that is nothing but the kernel's `send`, once for each event and connection.
   It has no HTTP parser, keepalive, limits or queue: it is a reference, not a server.

   usage: floor

   It listens on a free port of 127.0.0.1 and prints it. Then it reads commands as lines from stdin and answers each
   with a line of JSON, as the measured servers do:

     burst K             sends K events to every connection, back to back
     steady K INTERVAL   sends one event to every connection each INTERVAL milliseconds, K times
     cpu                 answers with the CPU time used so far
     quit                exits, as does the end of stdin */

#define _GNU_SOURCE
#include <arpa/inet.h>
#include <netinet/in.h>
#include <netinet/tcp.h>
#include <poll.h>
#include <sys/epoll.h>
#include <sys/socket.h>

#include "control.h"

enum { EPOLL_EVENTS = 512, DATA_SIZE = 100 };

struct connection {
    int socket;
    int matched; /* received bytes of the blank line that ends the request's head */
    size_t index;
};

static int epoll;
static struct connection *listener;
static struct connection **connections; /* the answered ones, in no order */
static size_t connected, capacity;
static unsigned long long sequence, deliveries, waits;

static const char RESPONSE[] = "HTTP/1.1 200 OK\r\n"
                               "Content-Type: text/event-stream\r\n"
                               "Cache-Control: no-cache\r\n"
                               "Transfer-Encoding: chunked\r\n"
                               "\r\n";

static void drop(struct connection *connection)
{
    if (connection->matched == 4) {
        connections[connection->index] = connections[--connected];
        connections[connection->index]->index = connection->index;
    }
    close(connection->socket);
    free(connection);
}

static void watch(struct connection *connection)
{
    struct epoll_event event = {.events = EPOLLIN, .data.ptr = connection};
    if (epoll_ctl(epoll, EPOLL_CTL_ADD, connection->socket, &event) < 0)
        die("epoll_ctl");
}

static void accept_all(void)
{
    int socket, on = 1;
    while ((socket = accept4(listener->socket, NULL, NULL, SOCK_NONBLOCK | SOCK_CLOEXEC)) >= 0) {
        /* As event stream servers do: with Nagle's algorithm, an event would wait until the one before it is
           acknowledged. */
        setsockopt(socket, IPPROTO_TCP, TCP_NODELAY, &on, sizeof on);
        struct connection *connection = calloc(1, sizeof *connection);
        if (!connection)
            die("calloc");
        connection->socket = socket;
        watch(connection);
    }
    if (errno != EAGAIN)
        die("accept");
}

static void answer_request(struct connection *connection)
{
    char buffer[4096];
    ssize_t got = recv(connection->socket, buffer, sizeof buffer, 0);
    if (got <= 0) {
        if (got == 0 || (errno != EAGAIN && errno != EINTR))
            drop(connection);
        return;
    }
    for (ssize_t i = 0; i < got && connection->matched < 4; i++) {
        connection->matched = buffer[i] == "\r\n\r\n"[connection->matched] ? connection->matched + 1
                                                                           : buffer[i] == '\r';
        if (connection->matched < 4)
            continue;
        if (connected == capacity)
            die("more connections than open files");
        connection->index = connected;
        connections[connected++] = connection;
        if (send(connection->socket, RESPONSE, sizeof RESPONSE - 1, MSG_NOSIGNAL) != sizeof RESPONSE - 1)
            die("send");
    }
}

/* The socket's buffer is full. It can hold many bursts, so a broadcast that waits here is not a reference any more.
   The answer has the number of these waits. */
static void send_slowly(int socket, const char *bytes, size_t length)
{
    while (length) {
        struct pollfd poll_socket = {.fd = socket, .events = POLLOUT};
        waits++;
        poll(&poll_socket, 1, -1);
        ssize_t sent = send(socket, bytes, length, MSG_NOSIGNAL);
        if (sent > 0) {
            bytes += sent;
            length -= (size_t)sent;
        } else if (errno != EAGAIN && errno != EINTR) {
            return; /* the peer disconnected; the main loop notices */
        }
    }
}

/* Sends the same bytes as the measured servers: 100 bytes of data, an id, chunked framing. */
static void broadcast(bool is_stamped)
{
    char event[DATA_SIZE + 80], chunk[DATA_SIZE + 96], data[DATA_SIZE + 1];
    memset(data, 'x', DATA_SIZE);
    data[DATA_SIZE] = '\0';
    if (is_stamped) {
        char stamp[24];
        snprintf(stamp, sizeof stamp, "%020llu", (unsigned long long)(now() * 1e9));
        memcpy(data, stamp, 20);
    }
    int size = snprintf(event, sizeof event, "id: 3f9a0c1d.%llu\ndata: %s\n\n", ++sequence, data);
    int length = snprintf(chunk, sizeof chunk, "%x\r\n%s\r\n", size, event);
    for (size_t i = 0; i < connected; i++) {
        ssize_t sent = send(connections[i]->socket, chunk, (size_t)length, MSG_NOSIGNAL);
        if (sent != length)
            send_slowly(connections[i]->socket, chunk + (sent > 0 ? sent : 0),
                        (size_t)length - (size_t)(sent > 0 ? sent : 0));
    }
    deliveries += connected;
}

static void sleep_until(double time)
{
    struct timespec wake = {.tv_sec = (time_t)time, .tv_nsec = (long)((time - (double)(time_t)time) * 1e9)};
    while (clock_nanosleep(CLOCK_MONOTONIC, TIMER_ABSTIME, &wake, NULL) == EINTR)
        ;
}

static void run_phase(const char *name, unsigned count, double interval, bool is_stamped)
{
    struct cpu before = cpu_used();
    double start = now();
    deliveries = waits = 0;
    for (unsigned i = 1; i <= count; i++) {
        broadcast(is_stamped);
        if (interval > 0)
            sleep_until(start + i * interval);
    }
    struct cpu after = cpu_used();
    printf("{\"reply\": \"%s\", \"deliveries\": %llu, \"seconds\": %.6f, \"user_seconds\": %.6f, "
           "\"system_seconds\": %.6f, \"waits\": %llu}\n",
           name, deliveries, now() - start, after.user - before.user, after.system - before.system, waits);
}

static void obey(char *line)
{
    unsigned count;
    double milliseconds;
    if (!strcmp(line, "quit")) {
        exit(0);
    } else if (!strcmp(line, "cpu")) {
        struct cpu cpu = cpu_used();
        printf("{\"reply\": \"cpu\", \"user_seconds\": %.6f, \"system_seconds\": %.6f}\n", cpu.user, cpu.system);
    } else if (sscanf(line, "burst %u", &count) == 1) {
        run_phase("burst", count, 0, false);
    } else if (sscanf(line, "steady %u %lf", &count, &milliseconds) == 2) {
        run_phase("steady", count, milliseconds / 1000, false);
    } else if (sscanf(line, "stamped %u %lf", &count, &milliseconds) == 2) {
        run_phase("stamped", count, milliseconds / 1000, true);
    } else {
        puts("{\"reply\": \"refused\", \"error\": \"no such command\"}");
    }
    fflush(stdout);
}

static void listen_on_free_port(void)
{
    struct sockaddr_in address = {.sin_family = AF_INET, .sin_addr.s_addr = htonl(INADDR_LOOPBACK)};
    socklen_t size = sizeof address;
    listener = calloc(1, sizeof *listener);
    if (!listener)
        die("calloc");
    listener->socket = socket(AF_INET, SOCK_STREAM | SOCK_NONBLOCK | SOCK_CLOEXEC, 0);
    if (listener->socket < 0 || bind(listener->socket, (struct sockaddr *)&address, size) < 0 ||
        listen(listener->socket, 65535) < 0 || getsockname(listener->socket, (struct sockaddr *)&address, &size) < 0)
        die("listen");
    watch(listener);
    printf("{\"reply\": \"listening\", \"port\": %d}\n", ntohs(address.sin_port));
    fflush(stdout);
}

int main(void)
{
    capacity = raise_file_limit();
    connections = calloc(capacity, sizeof *connections);
    epoll = epoll_create1(EPOLL_CLOEXEC);
    struct epoll_event input = {.events = EPOLLIN, .data.ptr = NULL};
    if (!connections || epoll < 0 || epoll_ctl(epoll, EPOLL_CTL_ADD, STDIN_FILENO, &input) < 0)
        die("floor");
    listen_on_free_port();

    static struct commands commands;
    static struct epoll_event happened[EPOLL_EVENTS];
    for (;;) {
        int many = epoll_wait(epoll, happened, EPOLL_EVENTS, -1);
        if (many < 0 && errno != EINTR)
            die("epoll_wait");
        bool has_command = false;
        for (int i = 0; i < many; i++) {
            if (!happened[i].data.ptr)
                has_command = true;
            else if (happened[i].data.ptr == listener)
                accept_all();
            else
                answer_request(happened[i].data.ptr);
        }
        if (has_command && !read_commands(&commands, obey))
            return 0;
    }
}
