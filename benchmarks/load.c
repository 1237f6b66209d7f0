/* The load: opens many event streams and counts what comes in, exactly.

   usage: load HOST PORT PATH

   It is driven by lines on stdin and answers each with a line of JSON:

     connect N   opens N more streams; answers when all have their response head
     expect N    answers at once, and again when N more events have come, or after two minutes
     report      answers with the totals so far
     close       closes all streams
     quit        ends, as does the end of stdin

   One thread, one epoll, one read buffer. Each answer tells this program's own share of a core, so that one
   sees whether it was the load that was too slow. */

#define _GNU_SOURCE
#include <arpa/inet.h>
#include <netinet/in.h>
#include <netinet/tcp.h>
#include <stdarg.h>
#include <sys/epoll.h>
#include <sys/socket.h>

#include "control.h"
#include "request.h"
#include "stream.h"

/* The listener's queue is bounded by net.core.somaxconn, and a connection that finds it full waits a whole
   second for its next try: fewer than that are opened at a time. */
enum { WAVE = 256, SOURCE_ADDRESSES = 64, EPOLL_EVENTS = 512, READ_SIZE = 256 * 1024 };
static const double PATIENCE = 120;

struct connection {
    int socket;
    bool is_ready; /* the response head has come */
    struct stream stream;
};

static struct sockaddr_in server;
static char request[2048];
static size_t request_length;
static int epoll;
static struct connection *connections;
static size_t opened, ready, failed, wanted, capacity; /* in streams; `opened` counts those that failed too */
static uint64_t events, bytes, ids, gaps, errors;
static char first_error[160];

/* What a pending command waits for. */
static enum { NOTHING, CONNECTED, RECEIVED } goal;
static uint64_t events_expected;
static struct {
    double start, first_event, last_event, cpu;
    uint64_t events, bytes, ids, gaps;
} phase;

static void fail(struct connection *connection, const char *what)
{
    if (!errors++)
        snprintf(first_error, sizeof first_error, "stream %zu: %s", (size_t)(connection - connections), what);
    close(connection->socket); /* which also takes it out of the epoll */
    connection->socket = -1;
    ready -= connection->is_ready;
    failed++;
}

static void open_one(void)
{
    struct connection *connection = &connections[opened];
    *connection = (struct connection){.socket = socket(AF_INET, SOCK_STREAM | SOCK_NONBLOCK, 0)};
    if (connection->socket < 0)
        die("socket");
    int on = 1;
    setsockopt(connection->socket, IPPROTO_TCP, TCP_NODELAY, &on, sizeof on);
    if (ntohl(server.sin_addr.s_addr) >> 24 == 127) {
        /* One address has some 28,000 ports for one server, fewer while those of an earlier round linger. The
           port is left to connect(): only there is it known to be free for this destination. */
        setsockopt(connection->socket, IPPROTO_IP, IP_BIND_ADDRESS_NO_PORT, &on, sizeof on);
        struct sockaddr_in source = {
            .sin_family = AF_INET,
            .sin_addr.s_addr = htonl(0x7f000002 + (uint32_t)(opened % SOURCE_ADDRESSES)),
        };
        if (bind(connection->socket, (struct sockaddr *)&source, sizeof source) < 0)
            die("bind");
    }
    opened++;
    struct epoll_event event = {.events = EPOLLOUT, .data.ptr = connection};
    if (epoll_ctl(epoll, EPOLL_CTL_ADD, connection->socket, &event) < 0)
        die("epoll_ctl");
    if (connect(connection->socket, (struct sockaddr *)&server, sizeof server) < 0 && errno != EINPROGRESS)
        fail(connection, strerror(errno));
}

static void send_request(struct connection *connection)
{
    int error = 0;
    socklen_t size = sizeof error;
    getsockopt(connection->socket, SOL_SOCKET, SO_ERROR, &error, &size);
    if (error) {
        fail(connection, strerror(error));
        return;
    }
    if (send(connection->socket, request, request_length, MSG_NOSIGNAL) != (ssize_t)request_length) {
        fail(connection, "the request could not be sent in one piece");
        return;
    }
    struct epoll_event event = {.events = EPOLLIN, .data.ptr = connection};
    if (epoll_ctl(epoll, EPOLL_CTL_MOD, connection->socket, &event) < 0)
        die("epoll_ctl");
}

static void receive(struct connection *connection, double time)
{
    static char buffer[READ_SIZE];
    struct stream *stream = &connection->stream;
    ssize_t got = recv(connection->socket, buffer, sizeof buffer, 0);
    if (got <= 0) {
        if (got == 0)
            fail(connection, "the server closed it");
        else if (errno != EAGAIN && errno != EINTR)
            fail(connection, strerror(errno));
        return;
    }
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
    }
    if (stream->error || stream->part == ENDED)
        fail(connection, stream->error ? stream->error : "the server ended the stream");
}

static void new_phase(void)
{
    memset(&phase, 0, sizeof phase);
    phase.start = now();
    phase.cpu = cpu_total();
    phase.events = events;
    phase.bytes = bytes;
    phase.ids = ids;
    phase.gaps = gaps;
    for (size_t i = 0; i < opened; i++)
        stream_new_phase(&connections[i].stream);
}

static void answer(const char *name, const char *format, ...) __attribute__((format(printf, 2, 3)));

static void answer(const char *name, const char *format, ...)
{
    va_list arguments;
    va_start(arguments, format);
    printf("{\"reply\": \"%s\", ", name);
    vprintf(format, arguments);
    va_end(arguments);
    printf("\"connected\": %zu, \"errors\": %llu", ready, (unsigned long long)errors);
    if (errors)
        printf(", \"error\": \"%s\"", first_error);
    puts("}");
    fflush(stdout);
}

/* `seconds` is the time from the first event to the last; waiting for the first costs no CPU. */
static void answer_phase(const char *name)
{
    double cpu = cpu_total() - phase.cpu, seconds = phase.last_event - phase.first_event;
    uint64_t fewest = opened ? UINT64_MAX : 0, most = 0;
    for (size_t i = 0; i < opened; i++) {
        uint64_t count = connections[i].stream.events;
        fewest = count < fewest ? count : fewest;
        most = count > most ? count : most;
    }
    answer(name,
           "\"events\": %llu, \"fewest_per_stream\": %llu, \"most_per_stream\": %llu, \"ids\": %llu, "
           "\"id_gaps\": %llu, \"bytes\": %llu, \"seconds\": %.6f, \"cpu_seconds\": %.6f, \"cpu_share\": %.3f, ",
           (unsigned long long)(events - phase.events), (unsigned long long)fewest, (unsigned long long)most,
           (unsigned long long)(ids - phase.ids), (unsigned long long)(gaps - phase.gaps),
           (unsigned long long)(bytes - phase.bytes), seconds, cpu, seconds > 0 ? cpu / seconds : 0.0);
}

static void answer_connected(const char *name)
{
    double cpu = cpu_total() - phase.cpu, seconds = now() - phase.start;
    answer(name, "\"seconds\": %.6f, \"cpu_seconds\": %.6f, \"cpu_share\": %.3f, ", seconds, cpu, cpu / seconds);
}

static void close_all(void)
{
    for (size_t i = 0; i < opened; i++) {
        if (connections[i].socket >= 0)
            close(connections[i].socket);
        free(connections[i].stream.head);
    }
    opened = ready = failed = wanted = 0;
}

static void refuse(const char *why)
{
    printf("{\"reply\": \"refused\", \"error\": \"%s\"}\n", why);
    fflush(stdout);
}

static void obey(char *line)
{
    unsigned long long count;
    if (!strcmp(line, "quit")) {
        exit(0);
    } else if (!strcmp(line, "report")) {
        answer("report", "\"events\": %llu, \"bytes\": %llu, \"ids\": %llu, \"id_gaps\": %llu, \"cpu_seconds\": %.6f, ",
               (unsigned long long)events, (unsigned long long)bytes, (unsigned long long)ids,
               (unsigned long long)gaps, cpu_total());
    } else if (goal != NOTHING) {
        refuse("another command is not done yet");
    } else if (sscanf(line, "connect %llu", &count) == 1) {
        if (count > capacity - opened) {
            refuse("more streams than this process may have open files");
            return;
        }
        new_phase();
        wanted += count;
        goal = CONNECTED;
    } else if (sscanf(line, "expect %llu", &count) == 1) {
        new_phase();
        events_expected = events + count;
        goal = RECEIVED;
        answer("expecting", "\"events\": %llu, ", count);
    } else if (!strcmp(line, "close")) {
        close_all();
        answer("closed", "%s", "");
    } else {
        refuse("no such command");
    }
}

/* Opens the next wave, and answers the pending command when it is done or out of time. */
static void advance(void)
{
    bool is_late = now() > phase.start + PATIENCE;
    if (goal == CONNECTED) {
        while (opened < wanted && opened - ready - failed < WAVE)
            open_one();
        if (is_late || ready + failed >= wanted) {
            wanted = opened;
            goal = NOTHING;
            answer_connected("ready");
        }
    } else if (goal == RECEIVED && (is_late || events >= events_expected)) {
        goal = NOTHING;
        answer_phase("received");
    }
}

int main(int count, char **arguments)
{
    if (count != 4) {
        fputs("usage: load HOST PORT PATH\n", stderr);
        return 2;
    }
    server.sin_family = AF_INET;
    server.sin_port = htons((uint16_t)atoi(arguments[2]));
    if (inet_pton(AF_INET, arguments[1], &server.sin_addr) != 1) {
        fputs("HOST must be an IPv4 address\n", stderr);
        return 2;
    }
    request_length = make_request(request, sizeof request, arguments[1], arguments[2], arguments[3]);
    if (!request_length) {
        fputs("PATH is too long\n", stderr);
        return 2;
    }
    capacity = raise_file_limit() - 16; /* the rest: standard streams, the epoll, what was inherited */
    connections = calloc(capacity, sizeof *connections);
    epoll = epoll_create1(EPOLL_CLOEXEC);
    struct epoll_event input = {.events = EPOLLIN, .data.ptr = NULL};
    if (!connections || epoll < 0 || epoll_ctl(epoll, EPOLL_CTL_ADD, STDIN_FILENO, &input) < 0)
        die("load");

    static struct commands commands;
    static struct epoll_event happened[EPOLL_EVENTS];
    for (;;) {
        int many = epoll_wait(epoll, happened, EPOLL_EVENTS, goal == NOTHING ? -1 : 1000);
        if (many < 0 && errno != EINTR)
            die("epoll_wait");
        double time = now();
        bool has_command = false;
        for (int i = 0; i < many; i++) {
            struct connection *connection = happened[i].data.ptr;
            if (!connection)
                has_command = true;
            else if (happened[i].events & EPOLLOUT)
                send_request(connection);
            else
                receive(connection, time);
        }
        /* Last, because a command may close what the events are about. */
        if (has_command && !read_commands(&commands, obey))
            return 0;
        advance();
    }
}
