/* The load: opens many event streams and counts exactly what they receive.

   usage: load [--tls] [--reconnect] [--share K] [--source K] [--patience S]
               [--http2 C --first HEX --further HEX] HOST PORT PATH

     --tls         use TLS, without checking the certificate
     --reconnect   reconnect at once, with Last-Event-ID, when the server ends or drops a stream, or exits
     --share K     in PATH, {n} stands for a number that K streams share: 0, 1, 2, ...
     --source K    use the K-th 64 addresses of the loopback network, for several loads at one server
     --patience S  wait S seconds for a command to finish instead of 120
     --http2 C     use HTTP/2 over C connections, to which streams are added in turn; without --tls, by prior knowledge
     --first HEX   the header block of a connection's first request, which replaces PATH; for HTTP/2
     --further HEX the header block of its further requests

   It reads commands as lines from stdin and answers each with a line of JSON:

     connect N   opens N more streams; answers when all have received their response head
     unread N    the same, but these streams are never read after their head and are not counted
     expect N    answers at once, and again when N more events have been received, or when patience runs out
     report      answers with the totals so far
     close       closes all streams
     quit        exits, as does the end of stdin

   One thread, one epoll, one read buffer. Each answer has this program's own share of a core, to show whether
   the load was the bottleneck. */

#define _GNU_SOURCE
#include <getopt.h>
#include <stdarg.h>

#include "connections.h"
#include "http2.h"

/* What the pending command waits for. */
static enum { NOTHING, CONNECTED, RECEIVED } goal;
static uint64_t events_expected;
static void new_phase(void)
{
    memset(&phase, 0, sizeof phase);
    phase.start = now();
    phase.cpu = cpu_total();
    phase.events = events;
    phase.bytes = bytes;
    phase.ids = ids;
    phase.gaps = gaps;
    phase.reconnects = reconnects;
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

/* `seconds` is the time from the first event to the last. Waiting for the first event takes no CPU time. */
static void answer_phase(const char *name)
{
    double cpu = cpu_total() - phase.cpu, seconds = phase.last_event - phase.first_event;
    uint64_t fewest = opened ? UINT64_MAX : 0, most = 0;
    for (size_t i = 0; i < opened; i++) {
        if (connections[i].is_unread)
            continue;
        uint64_t count = connections[i].stream.events;
        fewest = count < fewest ? count : fewest;
        most = count > most ? count : most;
    }
    latency_sort();
    answer(name,
           "\"latency_p50\": %.1f, \"latency_p99\": %.1f, \"latency_max\": %.1f, \"reconnects\": %llu, "
           "\"reconnect_seconds\": %.6f, "
           "\"events\": %llu, \"fewest_per_stream\": %llu, \"most_per_stream\": %llu, \"ids\": %llu, "
           "\"id_gaps\": %llu, \"bytes\": %llu, \"seconds\": %.6f, \"cpu_seconds\": %.6f, \"cpu_share\": %.3f, ",
           latency_at(0.5), latency_at(0.99), latency_at(1), (unsigned long long)(reconnects - phase.reconnects),
           phase.last_reconnect > 0 ? phase.last_reconnect - phase.first_loss : 0,
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
    for (size_t i = 0; i < session_count && i < opened; i++)
        pipe_close(&sessions[i].pipe);
    opened = ready = failed = wanted = lost_count = 0;
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
        refuse("another command is still running");
    } else if (sscanf(line, "connect %llu", &count) == 1 || sscanf(line, "unread %llu", &count) == 1) {
        if (count > capacity - opened) {
            refuse("more streams than this process may have open files");
            return;
        }
        if (session_count && *line == 'u') {
            refuse("streams that are never read need a connection each");
            return;
        }
        new_phase();
        wanted += count;
        unread_wanted = *line == 'u' ? count : 0;
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

/* Opens the next wave, and answers the pending command when it is finished or out of time. */
static void advance(void)
{
    bool is_late = now() > phase.start + patience;
    while (lost_count && now() >= not_before && opened - ready - failed - lost_count < WAVE)
        reopen_one();
    if (goal == CONNECTED) {
        while (opened < wanted && opened - ready - failed < WAVE)
            session_count ? open_http2_stream() : open_one();
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
        {"tls", no_argument, NULL, 't'}, {"reconnect", no_argument, NULL, 'r'}, {"share", required_argument, NULL, 's'},
        {"source", required_argument, NULL, 'o'}, {"patience", required_argument, NULL, 'p'},
        {"http2", required_argument, NULL, '2'}, {"first", required_argument, NULL, 'f'},
        {"further", required_argument, NULL, 'g'}, {0},
    };
    int option;
    bool is_secure = false;
    while ((option = getopt_long(count, arguments, "", options, NULL)) != -1) {
        if (option == 't' && !use_tls()) {
            fputs("load was built without OpenSSL, so it cannot use TLS\n", stderr);
            exit(2);
        } else if (option == 't') {
            is_secure = true;
        } else if (option == '2') {
            session_count = (size_t)atoi(optarg);
        } else if ((option == 'f' && !read_block(&first_block, optarg)) ||
                   (option == 'g' && !read_block(&further_block, optarg))) {
            fputs("a header block must be in hexadecimal\n", stderr);
            exit(2);
        } else if (option == 'r') {
            may_reconnect = true;
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
        fputs("usage: load [--tls] [--reconnect] [--share K] [--source K] [--patience S]\n"
              "            [--http2 C --first HEX --further HEX] HOST PORT PATH\n", stderr);
        exit(2);
    }
    if (session_count && (may_reconnect || !first_block.length || !further_block.length)) {
        fputs("HTTP/2 needs both header blocks, and no --reconnect\n", stderr);
        exit(2);
    }
    if (session_count && is_secure)
        offer_protocol("\x02h2");
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
    capacity = raise_file_limit() - 16; /* the rest: standard streams, the epoll, inherited descriptors */
    if (session_count > capacity) {
        fputs("more connections than this process may have open files\n", stderr);
        exit(2);
    }
    if (session_count)
        capacity = session_count * MOST_STREAMS_OF_ONE;
    sessions = calloc(session_count + 1, sizeof *sessions);
    connections = calloc(capacity, sizeof *connections);
    lost = calloc(capacity, sizeof *lost);
    epoll = epoll_create1(EPOLL_CLOEXEC);
    struct epoll_event input = {.events = EPOLLIN, .data.ptr = NULL};
    if (!connections || !sessions || !lost || epoll < 0 || epoll_ctl(epoll, EPOLL_CTL_ADD, STDIN_FILENO, &input) < 0)
        die("load");

    static struct commands commands;
    static struct epoll_event happened[EPOLL_EVENTS];
    for (;;) {
        int many = epoll_wait(epoll, happened, EPOLL_EVENTS, goal == NOTHING && !lost_count ? -1 : lost_count ? 20 : 1000);
        if (many < 0 && errno != EINTR)
            die("epoll_wait");
        double time = now();
        bool has_command = false;
        for (int i = 0; i < many; i++) {
            struct connection *connection = happened[i].data.ptr;
            if (!connection)
                has_command = true;
            else if (session_count)
                session_advance(happened[i].data.ptr, time);
            else if (!connection->has_requested)
                send_request(connection);
            else
                while (receive(connection, time))
                    ;
        }
        /* Commands come last, because a command may close a connection that has events. */
        if (has_command && !read_commands(&commands, obey))
            return 0;
        advance();
    }
}
