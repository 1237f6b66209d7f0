/* The connections of the load: opened in waves, read until the end, and reopened where clients reconnect. */

#ifndef CONNECTIONS_H
#define CONNECTIONS_H

#include <arpa/inet.h>
#include <netinet/in.h>
#include <netinet/tcp.h>
#include <sys/epoll.h>
#include <sys/socket.h>

#include "control.h"
#include "latency.h"
#include "pipe.h"
#include "request.h"
#include "stream.h"

/* net.core.somaxconn bounds the listener's queue, and a connection that finds it full waits a second before its
   next attempt. So fewer than that are opened at a time. */
enum { WAVE = 256, SOURCE_ADDRESSES = 64, EPOLL_EVENTS = 512, READ_SIZE = 256 * 1024 };
static const double RETRY_SECONDS = 0.05; /* after a failed attempt to reconnect */

struct connection {
    struct pipe pipe;
    bool has_requested; /* the request is sent */
    bool is_ready;  /* the response head is received */
    bool is_unread;
    bool was_ready; /* at some time before */
    struct stream stream;
};

static struct sockaddr_in server;
static const char *host, *port, *path;
static bool may_reconnect;
static size_t share = 1, source_block;
static double patience = 120, not_before;
static int epoll;
static struct connection *connections;
static size_t opened, ready, failed, wanted, capacity; /* streams; `opened` includes failed ones */
static size_t unread_wanted; /* how many of the streams still to open are never read */
static size_t *lost, lost_count; /* a stack of streams that must reconnect */
static uint64_t events, bytes, ids, gaps, errors, reconnects;
static char first_error[160];

/* What happened since the last command that opens streams or expects events. */
static struct {
    double start, first_event, last_event, first_loss, last_reconnect, cpu;
    uint64_t events, bytes, ids, gaps, reconnects;
} phase;

/* The server or the network ended or dropped the stream. */
static void disconnected(struct connection *connection, const char *what);

static void fail(struct connection *connection, const char *what)
{
    if (!errors++)
        snprintf(first_error, sizeof first_error, "stream %zu: %s", (size_t)(connection - connections), what);
    pipe_close(&connection->pipe);
    ready -= connection->is_ready;
    failed++;
}

static void disconnected(struct connection *connection, const char *what)
{
    if (!may_reconnect || !connection->was_ready) {
        fail(connection, what);
        return;
    }
    pipe_close(&connection->pipe);
    if (!connection->is_ready)
        not_before = now() + RETRY_SECONDS;
    ready -= connection->is_ready;
    connection->is_ready = connection->has_requested = false;
    if (!phase.first_loss)
        phase.first_loss = now();
    lost[lost_count++] = (size_t)(connection - connections);
}

static void open_socket(struct connection *connection)
{
    size_t index = (size_t)(connection - connections);
    int opened_socket = socket(AF_INET, SOCK_STREAM | SOCK_NONBLOCK, 0);
    if (opened_socket < 0)
        die("socket");
    connection->pipe.socket = opened_socket;
    int on = 1, little = 4096;
    setsockopt(opened_socket, IPPROTO_TCP, TCP_NODELAY, &on, sizeof on);
    if (connection->is_unread)
        setsockopt(opened_socket, SOL_SOCKET, SO_RCVBUF, &little, sizeof little);
    if (ntohl(server.sin_addr.s_addr) >> 24 == 127) {
        /* One address has about 28,000 ports for one server, and fewer while ports of an earlier round are still in
           use. connect() picks the port, because only connect() knows which ports are free for this destination. */
        setsockopt(opened_socket, IPPROTO_IP, IP_BIND_ADDRESS_NO_PORT, &on, sizeof on);
        struct sockaddr_in source = {
            .sin_family = AF_INET,
            .sin_addr.s_addr = htonl(0x7f000002 + (uint32_t)(source_block * SOURCE_ADDRESSES + index % SOURCE_ADDRESSES)),
        };
        if (bind(opened_socket, (struct sockaddr *)&source, sizeof source) < 0)
            die("bind");
    }
    struct epoll_event event = {.events = EPOLLOUT, .data.ptr = connection};
    if (epoll_ctl(epoll, EPOLL_CTL_ADD, opened_socket, &event) < 0)
        die("epoll_ctl");
    if (connect(opened_socket, (struct sockaddr *)&server, sizeof server) < 0 && errno != EINPROGRESS)
        disconnected(connection, strerror(errno));
}

static void open_one(void)
{
    struct connection *connection = &connections[opened++];
    *connection = (struct connection){.pipe.socket = -1, .is_unread = unread_wanted > 0};
    unread_wanted -= connection->is_unread;
    open_socket(connection);
}

static void reopen_one(void)
{
    struct connection *connection = &connections[lost[--lost_count]];
    stream_reset(&connection->stream);
    open_socket(connection);
}

static size_t write_request(struct connection *connection, char *request, size_t size)
{
    char own_path[256], resume[128] = "";
    const char *hole = strstr(path, "{n}");
    if (hole)
        snprintf(own_path, sizeof own_path, "%.*s%zu%s", (int)(hole - path), path,
                 (size_t)(connection - connections) / share, hole + 3);
    struct stream *stream = &connection->stream;
    if (stream->epoch && stream_ids_are_pairs)
        snprintf(resume, sizeof resume, "Last-Event-ID: %llu-%llu\r\n", (unsigned long long)stream->epoch,
                 (unsigned long long)stream->sequence);
    else if (stream->epoch)
        snprintf(resume, sizeof resume, "Last-Event-ID: %.*s%llu\r\n", (int)stream_epoch_length, stream_epoch,
                 (unsigned long long)stream->sequence);
    return make_request(request, size, host, port, hole ? own_path : path, resume);
}

static void send_request(struct connection *connection)
{
    char request[2048];
    int error = 0;
    socklen_t size = sizeof error;
    getsockopt(connection->pipe.socket, SOL_SOCKET, SO_ERROR, &error, &size);
    if (error) {
        disconnected(connection, strerror(error));
        return;
    }
    size_t length = write_request(connection, request, sizeof request);
    ssize_t sent = pipe_send(&connection->pipe, request, length);
    connection->has_requested = sent == (ssize_t)length && length;
    if (!connection->has_requested && !(sent < 0 && errno == EAGAIN)) {
        disconnected(connection, sent < 0 ? strerror(errno) : "the request could not be sent in one piece");
        return;
    }
    struct epoll_event event = {.events = EPOLLIN, .data.ptr = connection};
    if (epoll_ctl(epoll, EPOLL_CTL_MOD, connection->pipe.socket, &event) < 0)
        die("epoll_ctl");
}

/* Returns whether there are more bytes that epoll does not report. */
static bool receive(struct connection *connection, double time)
{
    static char buffer[READ_SIZE];
    struct stream *stream = &connection->stream;
    ssize_t got = pipe_receive(&connection->pipe, buffer, sizeof buffer);
    if (got <= 0) {
        if (got == 0)
            disconnected(connection, "the server closed it");
        else if (errno == ECONNRESET || errno == EPIPE)
            disconnected(connection, strerror(errno));
        else if (errno != EAGAIN && errno != EINTR)
            fail(connection, strerror(errno));
        return false;
    }
    if (stream_take_stamp)
        latencies.arrived = (uint64_t)(now() * 1e9);
    struct stream before = {.events = stream->events, .ids = stream->ids, .gaps = stream->gaps};
    stream_take(stream, buffer, (size_t)got);
    bytes += (uint64_t)got;
    ids += stream->ids - before.ids;
    gaps += stream->gaps - before.gaps;
    if (stream->events > before.events) {
        events += stream->events - before.events;
        phase.last_event = time;
        if (!phase.first_event)
            phase.first_event = time;
    }
    if (!connection->is_ready && stream->part != HEAD && !stream->error) {
        connection->is_ready = true;
        ready++;
        if (connection->was_ready) {
            reconnects++;
            phase.last_reconnect = now();
        }
        connection->was_ready = true;
        if (connection->is_unread && epoll_ctl(epoll, EPOLL_CTL_DEL, connection->pipe.socket, NULL) < 0)
            die("epoll_ctl");
    }
    if (stream->error)
        fail(connection, stream->error);
    else if (stream->part == ENDED)
        disconnected(connection, "the server ended the stream");
    return connection->pipe.socket >= 0 && pipe_holds(&connection->pipe);
}

#endif
