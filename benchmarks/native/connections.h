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

/* Returns a socket that is not yet connected, bound to one of this load's addresses. */
static int make_socket(size_t index)
{
    int made = socket(AF_INET, SOCK_STREAM | SOCK_NONBLOCK, 0);
    if (made < 0)
        die("socket");
    int on = 1;
    setsockopt(made, IPPROTO_TCP, TCP_NODELAY, &on, sizeof on);
    if (ntohl(server.sin_addr.s_addr) >> 24 == 127) {
        /* One address has about 28,000 ports for one server, and fewer while ports of an earlier round are still in
           use. connect() picks the port, because only connect() knows which ports are free for this destination. */
        setsockopt(made, IPPROTO_IP, IP_BIND_ADDRESS_NO_PORT, &on, sizeof on);
        struct sockaddr_in source = {
            .sin_family = AF_INET,
            .sin_addr.s_addr = htonl(0x7f000002 + (uint32_t)(source_block * SOURCE_ADDRESSES + index % SOURCE_ADDRESSES)),
        };
        if (bind(made, (struct sockaddr *)&source, sizeof source) < 0)
            die("bind");
    }
    return made;
}

/* Starts to connect, and lets epoll report `data` when the socket can be written. Returns false at a failure. */
static bool begin_connect(int socket, void *data)
{
    struct epoll_event event = {.events = EPOLLOUT, .data.ptr = data};
    if (epoll_ctl(epoll, EPOLL_CTL_ADD, socket, &event) < 0)
        die("epoll_ctl");
    return connect(socket, (struct sockaddr *)&server, sizeof server) == 0 || errno == EINPROGRESS;
}

/* Returns the failure of an attempt to connect, or 0. */
static int connect_error(int socket)
{
    int error = 0;
    socklen_t size = sizeof error;
    getsockopt(socket, SOL_SOCKET, SO_ERROR, &error, &size);
    return error;
}

static void open_socket(struct connection *connection)
{
    int made = connection->pipe.socket = make_socket((size_t)(connection - connections)), little = 4096;
    if (connection->is_unread)
        setsockopt(made, SOL_SOCKET, SO_RCVBUF, &little, sizeof little);
    if (!begin_connect(made, connection))
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
    int error = connect_error(connection->pipe.socket);
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

/* Call this before a stream takes bytes, and note_received() with its result after it. */
static struct stream begin_received(const struct stream *stream)
{
    if (stream_take_stamp)
        latencies.arrived = (uint64_t)(now() * 1e9);
    return (struct stream){.events = stream->events, .ids = stream->ids, .gaps = stream->gaps};
}

static void note_received(const struct stream *stream, const struct stream *before, double time)
{
    ids += stream->ids - before->ids;
    gaps += stream->gaps - before->gaps;
    if (stream->events > before->events) {
        events += stream->events - before->events;
        phase.last_event = time;
        if (!phase.first_event)
            phase.first_event = time;
    }
}

/* The response head has been received. */
static void note_ready(struct connection *connection)
{
    connection->is_ready = true;
    ready++;
    if (connection->was_ready) {
        reconnects++;
        phase.last_reconnect = now();
    }
    connection->was_ready = true;
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
    struct stream before = begin_received(stream);
    stream_take(stream, buffer, (size_t)got);
    bytes += (uint64_t)got;
    note_received(stream, &before, time);
    if (!connection->is_ready && stream->part != HEAD && !stream->error) {
        note_ready(connection);
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
