/* The load: opens many event streams and counts what comes in, exactly.

   usage: load [--tls] [--return] [--share K] [--source K] [--patience S] HOST PORT PATH

     --tls         speak TLS, without looking at the certificate
     --return      come back at once, with Last-Event-ID, when the server ends or cuts a stream, or dies
     --share K     in PATH, {n} stands for a number that K streams have in common: 0, 1, 2, ...
     --source K    use the K-th 64 addresses of the loopback network, where several loads share the work
     --patience S  give a command so many seconds instead of 120

   It is driven by lines on stdin and answers each with a line of JSON:

     connect N   opens N more streams; answers when all have their response head
     deaf N      the same, of streams that are never read after their head, and are counted in nothing
     expect N    answers at once, and again when N more events have come, or when patience is at its end
     report      answers with the totals so far
     close       closes all streams
     quit        ends, as does the end of stdin

   One thread, one epoll, one read buffer. Each answer tells this program's own share of a core, so that one
   sees whether it was the load that was too slow. */

#define _GNU_SOURCE
#include <arpa/inet.h>
#include <getopt.h>
#include <netinet/in.h>
#include <netinet/tcp.h>
#include <stdarg.h>
#include <sys/epoll.h>
#include <sys/socket.h>

#include "control.h"
#include "latency.h"
#include "pipe.h"
#include "request.h"
#include "stream.h"

/* The listener's queue is bounded by net.core.somaxconn, and a connection that finds it full waits a whole
   second for its next try: fewer than that are opened at a time. */
enum { WAVE = 256, SOURCE_ADDRESSES = 64, EPOLL_EVENTS = 512, READ_SIZE = 256 * 1024 };
static const double RETURN_SECONDS = 0.05; /* after a try to come back that failed */

struct connection {
    struct pipe pipe;
    bool has_asked; /* the request is out */
    bool is_ready;  /* the response head has come */
    bool is_deaf;
    bool has_been; /* it was ready once */
    struct stream stream;
};

static struct sockaddr_in server;
static const char *host, *port, *path;
static bool may_return;
static size_t share = 1, source_block;
static double patience = 120, not_before;
static int epoll;
static struct connection *connections;
static size_t opened, ready, failed, wanted, capacity; /* in streams; `opened` counts those that failed too */
static size_t deaf_wanted; /* of those that are to be opened, so many */
static size_t *away, away_count; /* streams that were cut and are to come back: a stack */
static uint64_t events, bytes, ids, gaps, errors, returns;
static char first_error[160];

/* What a pending command waits for. */
static enum { NOTHING, CONNECTED, RECEIVED } goal;
static uint64_t events_expected;
static struct {
    double start, first_event, last_event, first_cut, last_return, cpu;
    uint64_t events, bytes, ids, gaps, returns;
} phase;

/* The server, or the network, has ended or cut the stream. */
static void leave(struct connection *connection, const char *what);

static void fail(struct connection *connection, const char *what)
{
    if (!errors++)
        snprintf(first_error, sizeof first_error, "stream %zu: %s", (size_t)(connection - connections), what);
    pipe_close(&connection->pipe);
    ready -= connection->is_ready;
    failed++;
}

static void leave(struct connection *connection, const char *what)
{
    if (!may_return || !connection->has_been) {
        fail(connection, what);
        return;
    }
    pipe_close(&connection->pipe);
    if (!connection->is_ready)
        not_before = now() + RETURN_SECONDS;
    ready -= connection->is_ready;
    connection->is_ready = connection->has_asked = false;
    if (!phase.first_cut)
        phase.first_cut = now();
    away[away_count++] = (size_t)(connection - connections);
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
    if (connection->is_deaf)
        setsockopt(opened_socket, SOL_SOCKET, SO_RCVBUF, &little, sizeof little);
    if (ntohl(server.sin_addr.s_addr) >> 24 == 127) {
        /* One address has some 28,000 ports for one server, fewer while those of an earlier round linger. The
           port is left to connect(): only there is it known to be free for this destination. */
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
        leave(connection, strerror(errno));
}

static void open_one(void)
{
    struct connection *connection = &connections[opened++];
    *connection = (struct connection){.pipe.socket = -1, .is_deaf = deaf_wanted > 0};
    deaf_wanted -= connection->is_deaf;
    open_socket(connection);
}

static void open_again(void)
{
    struct connection *connection = &connections[away[--away_count]];
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
        leave(connection, strerror(error));
        return;
    }
    size_t length = write_request(connection, request, sizeof request);
    ssize_t sent = pipe_send(&connection->pipe, request, length);
    connection->has_asked = sent == (ssize_t)length && length;
    if (!connection->has_asked && !(sent < 0 && errno == EAGAIN)) {
        leave(connection, sent < 0 ? strerror(errno) : "the request could not be sent in one piece");
        return;
    }
    struct epoll_event event = {.events = EPOLLIN, .data.ptr = connection};
    if (epoll_ctl(epoll, EPOLL_CTL_MOD, connection->pipe.socket, &event) < 0)
        die("epoll_ctl");
}

/* Returns whether there is more that epoll doesn't tell of. */
static bool receive(struct connection *connection, double time)
{
    static char buffer[READ_SIZE];
    struct stream *stream = &connection->stream;
    ssize_t got = pipe_receive(&connection->pipe, buffer, sizeof buffer);
    if (got <= 0) {
        if (got == 0)
            leave(connection, "the server closed it");
        else if (errno == ECONNRESET || errno == EPIPE)
            leave(connection, strerror(errno));
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
        if (connection->has_been) {
            returns++;
            phase.last_return = now();
        }
        connection->has_been = true;
        if (connection->is_deaf && epoll_ctl(epoll, EPOLL_CTL_DEL, connection->pipe.socket, NULL) < 0)
            die("epoll_ctl");
    }
    if (stream->error)
        fail(connection, stream->error);
    else if (stream->part == ENDED)
        leave(connection, "the server ended the stream");
    return connection->pipe.socket >= 0 && pipe_holds(&connection->pipe);
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
    phase.returns = returns;
    latencies.count = 0;
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
        if (connections[i].is_deaf)
            continue;
        uint64_t count = connections[i].stream.events;
        fewest = count < fewest ? count : fewest;
        most = count > most ? count : most;
    }
    latency_sort();
    answer(name,
           "\"latency_p50\": %.1f, \"latency_p99\": %.1f, \"latency_max\": %.1f, \"returns\": %llu, "
           "\"returned_seconds\": %.6f, "
           "\"events\": %llu, \"fewest_per_stream\": %llu, \"most_per_stream\": %llu, \"ids\": %llu, "
           "\"id_gaps\": %llu, \"bytes\": %llu, \"seconds\": %.6f, \"cpu_seconds\": %.6f, \"cpu_share\": %.3f, ",
           latency_at(0.5), latency_at(0.99), latency_at(1), (unsigned long long)(returns - phase.returns),
           phase.last_return > 0 ? phase.last_return - phase.first_cut : 0,
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
        pipe_close(&connections[i].pipe);
        free(connections[i].stream.head);
    }
    opened = ready = failed = wanted = away_count = 0;
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
    } else if (sscanf(line, "connect %llu", &count) == 1 || sscanf(line, "deaf %llu", &count) == 1) {
        if (count > capacity - opened) {
            refuse("more streams than this process may have open files");
            return;
        }
        new_phase();
        wanted += count;
        deaf_wanted = *line == 'd' ? count : 0;
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
    bool is_late = now() > phase.start + patience;
    while (away_count && now() >= not_before && opened - ready - failed - away_count < WAVE)
        open_again();
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

static void parse_options(int count, char **arguments)
{
    static const struct option options[] = {
        {"tls", no_argument, NULL, 't'}, {"return", no_argument, NULL, 'r'}, {"share", required_argument, NULL, 's'},
        {"source", required_argument, NULL, 'o'}, {"patience", required_argument, NULL, 'p'}, {0},
    };
    int option;
    while ((option = getopt_long(count, arguments, "", options, NULL)) != -1) {
        if (option == 't' && !use_tls()) {
            fputs("load was built without OpenSSL, so it can't speak TLS\n", stderr);
            exit(2);
        } else if (option == 'r') {
            may_return = true;
        } else if (option == 's') {
            share = (size_t)atoi(optarg);
        } else if (option == 'o') {
            source_block = (size_t)atoi(optarg);
        } else if (option == 'p') {
            patience = atof(optarg);
        } else if (option == '?') {
            exit(2);
        }
    }
    if (count - optind != 3 || !share || strlen(arguments[optind + 2]) > 200) {
        fputs("usage: load [--tls] [--return] [--share K] [--source K] [--patience S] HOST PORT PATH\n", stderr);
        exit(2);
    }
    host = arguments[optind];
    port = arguments[optind + 1];
    path = arguments[optind + 2];
    server.sin_family = AF_INET;
    server.sin_port = htons((uint16_t)atoi(port));
    if (inet_pton(AF_INET, host, &server.sin_addr) != 1) {
        fputs("HOST must be an IPv4 address\n", stderr);
        exit(2);
    }
}

int main(int count, char **arguments)
{
    parse_options(count, arguments);
    stream_take_stamp = latency_take;
    capacity = raise_file_limit() - 16; /* the rest: standard streams, the epoll, what was inherited */
    connections = calloc(capacity, sizeof *connections);
    away = calloc(capacity, sizeof *away);
    epoll = epoll_create1(EPOLL_CLOEXEC);
    struct epoll_event input = {.events = EPOLLIN, .data.ptr = NULL};
    if (!connections || !away || epoll < 0 || epoll_ctl(epoll, EPOLL_CTL_ADD, STDIN_FILENO, &input) < 0)
        die("load");

    static struct commands commands;
    static struct epoll_event happened[EPOLL_EVENTS];
    for (;;) {
        int many = epoll_wait(epoll, happened, EPOLL_EVENTS, goal == NOTHING && !away_count ? -1 : away_count ? 20 : 1000);
        if (many < 0 && errno != EINTR)
            die("epoll_wait");
        double time = now();
        bool has_command = false;
        for (int i = 0; i < many; i++) {
            struct connection *connection = happened[i].data.ptr;
            if (!connection)
                has_command = true;
            else if (!connection->has_asked)
                send_request(connection);
            else
                while (receive(connection, time))
                    ;
        }
        /* Last, because a command may close what the events are about. */
        if (has_command && !read_commands(&commands, obey))
            return 0;
        advance();
    }
}
