/* Streams over HTTP/2: the load's stream number i is on the connection i % C, so the first C streams open all
   connections, and the next ones add a stream to each in turn.

   The windows are as large as they may be, so they never shut. Header blocks come from the command line. Of the
   server's blocks, only the status at their beginning is read: `:status: 200` is always one byte. */

#ifndef HTTP2_H
#define HTTP2_H

#include "connections.h"

enum { FRAME_HEAD = 9, FRAME_KEPT = 32, MAX_WINDOW = 0x7fffffff, MOST_STREAMS_OF_ONE = 1000 };
enum frame_type { DATA, HEADERS, PRIORITY, RST_STREAM, SETTINGS, PUSH_PROMISE, PING, GOAWAY, WINDOW_UPDATE };
enum { ACK = 1, END_STREAM = 1, END_HEADERS = 4, PADDED = 8 };

struct block {
    unsigned char bytes[4096];
    size_t length;
};

/* One connection. A frame's header and the first bytes of its payload are kept until they are complete. */
struct session {
    struct pipe pipe;
    bool is_open; /* the handshake is over, and the preface is sent */
    bool is_lost;
    unsigned char *output; /* frames that wait to be sent */
    size_t length, capacity;
    size_t streams; /* opened so far */
    uint64_t unacknowledged; /* bytes of DATA since the connection's window was last opened */
    unsigned char head[FRAME_HEAD], kept[FRAME_KEPT];
    uint32_t head_length, kept_length, left; /* left: of the payload */
    const char *error;
};

static size_t session_count; /* 0: HTTP/1.1 */
static struct session *sessions;
static struct block first_block, further_block;

static void put(struct session *session, const void *bytes, size_t length)
{
    while (session->length + length > session->capacity) {
        session->capacity = session->capacity ? 2 * session->capacity : 2048;
        if (!(session->output = realloc(session->output, session->capacity)))
            abort();
    }
    memcpy(session->output + session->length, bytes, length);
    session->length += length;
}

static void put_number(unsigned char *bytes, uint32_t number)
{
    for (int i = 0; i < 4; i++)
        bytes[i] = (unsigned char)(number >> (24 - 8 * i));
}

static void put_frame(struct session *session, enum frame_type type, unsigned flags, uint32_t id, const void *payload,
                      size_t length)
{
    unsigned char head[FRAME_HEAD];
    put_number(head, (uint32_t)(length << 8 | type));
    head[4] = (unsigned char)flags;
    put_number(head + 5, id);
    put(session, head, sizeof head);
    put(session, payload, length);
}

static void open_window(struct session *session, uint32_t more)
{
    unsigned char payload[4];
    put_number(payload, more);
    put_frame(session, WINDOW_UPDATE, 0, 0, payload, sizeof payload);
}

static struct session *session_of(size_t stream) { return &sessions[stream % session_count]; }

static struct connection *stream_of(struct session *session, uint32_t id)
{
    size_t number = (id - 1) / 2;
    bool is_known = id % 2 && number < session->streams;
    return is_known ? &connections[number * session_count + (size_t)(session - sessions)] : NULL;
}

/* Fails a stream, unless it has failed before. */
static void end_stream(struct connection *connection, const char *what)
{
    if (connection->stream.part == ENDED)
        return;
    connection->stream.part = ENDED;
    fail(connection, what);
}

static void session_lost(struct session *session, const char *what)
{
    pipe_close(&session->pipe);
    session->is_lost = true;
    session->length = 0;
    for (size_t number = 0; number < session->streams; number++)
        end_stream(stream_of(session, (uint32_t)(2 * number + 1)), session->error ? session->error : what);
}

/* Sends what waits. */
static void session_flush(struct session *session)
{
    if (!session->length || session->is_lost)
        return;
    ssize_t sent = pipe_send(&session->pipe, (char *)session->output, session->length);
    if (sent < 0 && errno != EAGAIN) {
        session_lost(session, strerror(errno));
        return;
    }
    if (sent > 0) {
        session->length -= (size_t)sent;
        memmove(session->output, session->output + sent, session->length);
        session->is_open = true;
        if (!pipe_has_protocol(&session->pipe)) {
            session_lost(session, "the server does not offer HTTP/2");
            return;
        }
    }
    bool must_wait = session->length && !pipe_wants_bytes(&session->pipe);
    struct epoll_event event = {.events = EPOLLIN | (must_wait ? EPOLLOUT : 0), .data.ptr = session};
    if (epoll_ctl(epoll, EPOLL_CTL_MOD, session->pipe.socket, &event) < 0)
        die("epoll_ctl");
}

static void open_session(struct session *session)
{
    free(session->output);
    *session = (struct session){.pipe.socket = make_socket((size_t)(session - sessions))};
    static const unsigned char settings[] = {0, 2, 0, 0, 0, 0, 0, 4, 0x7f, 0xff, 0xff, 0xff}; /* no push, window */
    put(session, "PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n", 24);
    put_frame(session, SETTINGS, 0, 0, settings, sizeof settings);
    open_window(session, MAX_WINDOW - 65535);
    if (!begin_connect(session->pipe.socket, session))
        session_lost(session, strerror(errno));
}

static void open_http2_stream(void)
{
    size_t index = opened++;
    struct connection *connection = &connections[index];
    *connection = (struct connection){.pipe.socket = -1};
    struct session *session = session_of(index);
    if (index < session_count)
        open_session(session);
    uint32_t id = (uint32_t)(2 * session->streams++ + 1);
    if (session->is_lost) {
        end_stream(connection, session->error ? session->error : "its connection is lost");
        return;
    }
    struct block *block = id == 1 ? &first_block : &further_block;
    put_frame(session, HEADERS, END_STREAM | END_HEADERS, id, block->bytes, block->length);
    if (session->is_open)
        session_flush(session);
}

/* Takes a complete header block of a response, of which the first bytes were kept. */
static void take_block(struct session *session, struct connection *connection)
{
    unsigned char *block = session->kept, *end = block + session->kept_length;
    while (block < end && (*block & 0xe0) == 0x20) { /* the size of the dynamic table, as nginx sends it */
        bool is_long = (*block++ & 0x1f) == 0x1f;
        while (is_long && block < end)
            is_long = *block++ & 0x80;
    }
    if (connection->is_ready)
        return; /* trailers */
    if (block == end || *block != 0x88)
        end_stream(connection, "the response's status is not 200");
    else if (connection->stream.part == HEAD) {
        connection->stream.part = UNFRAMED;
        note_ready(connection);
    }
}

/* Takes a frame other than DATA, of which the first bytes were kept. */
static void end_frame(struct session *session, uint32_t id)
{
    unsigned flags = session->head[4];
    struct connection *connection = stream_of(session, id);
    switch ((enum frame_type)session->head[3]) {
    case HEADERS:
        if (connection && connection->stream.part != ENDED)
            take_block(session, connection);
        break;
    case RST_STREAM:
        if (connection)
            end_stream(connection, "the server reset the stream");
        break;
    case SETTINGS:
        if (!(flags & ACK))
            put_frame(session, SETTINGS, ACK, 0, "", 0);
        break;
    case PING:
        if (!(flags & ACK))
            put_frame(session, PING, ACK, 0, session->kept, 8);
        break;
    case GOAWAY:
        session->error = "the server sent GOAWAY";
        break;
    default:
        break;
    }
    if (session->head[3] <= HEADERS && flags & END_STREAM && connection)
        end_stream(connection, "the server ended the stream");
}

static void take_data(struct session *session, uint32_t id, const char *data, size_t length, double time)
{
    struct connection *connection = stream_of(session, id);
    session->unacknowledged += length;
    if (session->unacknowledged > MAX_WINDOW / 2) {
        open_window(session, (uint32_t)session->unacknowledged);
        session->unacknowledged = 0;
    }
    if (!connection || connection->stream.part != UNFRAMED)
        return;
    struct stream before = begin_received(&connection->stream);
    take_lines(&connection->stream, data, length);
    note_received(&connection->stream, &before, time);
}

/* Parses the next bytes of the connection. */
static void take_frames(struct session *session, const char *data, size_t length, double time)
{
    const char *end = data + length;
    while (data < end || (session->head_length == FRAME_HEAD && !session->left)) {
        if (session->head_length < FRAME_HEAD) {
            session->head[session->head_length++] = (unsigned char)*data++;
            unsigned char *head = session->head;
            session->left = (uint32_t)(head[0] << 16 | head[1] << 8 | head[2]);
            session->kept_length = 0;
            if (session->head_length == FRAME_HEAD && head[3] <= HEADERS && head[4] & PADDED) {
                session_lost(session, "padding is not supported");
                return;
            }
            continue;
        }
        unsigned char *head = session->head;
        uint32_t id = ((uint32_t)head[5] << 24 | (uint32_t)head[6] << 16 | (uint32_t)head[7] << 8 | head[8]) & MAX_WINDOW;
        size_t size = (size_t)(end - data) < session->left ? (size_t)(end - data) : session->left;
        if (head[3] == DATA) {
            take_data(session, id, data, size, time);
        } else {
            size_t room = FRAME_KEPT - session->kept_length, kept = size < room ? size : room;
            memcpy(session->kept + session->kept_length, data, kept);
            session->kept_length += (uint32_t)kept;
        }
        data += size;
        session->left -= (uint32_t)size;
        if (!session->left) {
            session->head_length = 0;
            end_frame(session, id);
        }
    }
}

/* Sends and receives what epoll reports for a connection. */
static void session_advance(struct session *session, double time)
{
    static char buffer[READ_SIZE];
    int error = session->is_open ? 0 : connect_error(session->pipe.socket);
    if (error) {
        session_lost(session, strerror(error));
        return;
    }
    session_flush(session);
    while (session->is_open && !session->is_lost) {
        ssize_t got = pipe_receive(&session->pipe, buffer, sizeof buffer);
        if (got <= 0) {
            if (got == 0 || (errno != EAGAIN && errno != EINTR))
                session_lost(session, got ? strerror(errno) : "the server closed it");
            break;
        }
        bytes += (uint64_t)got;
        take_frames(session, buffer, (size_t)got, time);
        if (!pipe_holds(&session->pipe))
            break;
    }
    session_flush(session);
}

static bool read_block(struct block *block, const char *hex)
{
    unsigned byte;
    for (block->length = 0; block->length < sizeof block->bytes && sscanf(hex, "%2x", &byte) == 1; hex += 2)
        block->bytes[block->length++] = (unsigned char)byte;
    return block->length && !*hex;
}

#endif
