/* One received event stream: HTTP/1.1 response head, chunked framing, and the lines of the event stream.

   Every part keeps its state from one read to the next, so it does not matter where reads split the bytes.
   Chunks are taken apart before lines are: behind chunked framing the blank line that ends an event is
   followed by the chunk's own CRLF, and whoever counts blank lines in the raw bytes counts double.

   An event is what an EventSource would dispatch: a blank line after at least one `data` line. */

#ifndef STREAM_H
#define STREAM_H

#include <stdbool.h>
#include <stdint.h>
#include <stdlib.h>
#include <string.h>
#include <strings.h>

enum part { HEAD, CHUNK_SIZE, CHUNK_EXTENSION, CHUNK_DATA, CHUNK_END, CHUNK_END_LF, UNFRAMED, ENDED };

/* Only the beginning of a line matters: the field's name, and the whole of an id. */
enum { LINE_KEPT = 56, HEAD_MAX = 4096 };

struct stream {
    char *head; /* only until the response head is complete */
    const char *error;
    uint64_t chunk_left;
    uint64_t events, ids, gaps; /* since the last stream_new_phase() */
    uint64_t sequence, epoch; /* of the last id; epoch as a hash, 0 for none yet */
    uint16_t head_length;
    uint16_t status;
    uint8_t part;
    uint8_t line_length; /* at most LINE_KEPT: longer lines are cut */
    bool after_cr, has_data, any_digit;
    char line[LINE_KEPT];
};

static inline void stream_new_phase(struct stream *stream)
{
    stream->events = stream->ids = stream->gaps = 0;
}

/* Ids are `epoch.sequence`; on one connection, in one epoch, each is to be one more than the one before. */
static inline void take_id(struct stream *stream, const char *id, size_t length)
{
    uint64_t epoch = 14695981039346656037u, sequence = 0;
    size_t dot = length;
    while (dot > 0 && id[dot - 1] != '.')
        dot--;
    for (size_t i = 0; i < dot; i++)
        epoch = (epoch ^ (unsigned char)id[i]) * 1099511628211u;
    for (size_t i = dot; i < length; i++)
        sequence = sequence * 10 + (uint64_t)(id[i] - '0');
    if (stream->epoch && (epoch != stream->epoch || sequence != stream->sequence + 1))
        stream->gaps++;
    stream->epoch = epoch;
    stream->sequence = sequence;
    stream->ids++;
}

static inline void end_line(struct stream *stream)
{
    const char *line = stream->line;
    size_t length = stream->line_length;
    if (length == 0) {
        stream->events += stream->has_data;
        stream->has_data = false;
    } else if (length >= 4 && !memcmp(line, "data", 4) && (length == 4 || line[4] == ':')) {
        stream->has_data = true;
    } else if (length > 3 && !memcmp(line, "id:", 3)) {
        size_t space = line[3] == ' ';
        take_id(stream, line + 3 + space, length - 3 - space);
    }
    stream->line_length = 0;
}

static inline void take_lines(struct stream *stream, const char *bytes, size_t length)
{
    const char *end = bytes + length;
    while (bytes < end) {
        if (stream->after_cr) { /* the LF of a CRLF, which may come in another read */
            stream->after_cr = false;
            if (*bytes == '\n') {
                bytes++;
                continue;
            }
        }
        const char *stop = memchr(bytes, '\n', (size_t)(end - bytes));
        const char *limit = stop ? stop : end;
        const char *cr = memchr(bytes, '\r', (size_t)(limit - bytes));
        if (cr)
            stop = limit = cr;
        size_t kept = (size_t)(limit - bytes);
        if (kept > (size_t)(LINE_KEPT - stream->line_length))
            kept = (size_t)(LINE_KEPT - stream->line_length);
        memcpy(stream->line + stream->line_length, bytes, kept);
        stream->line_length = (uint8_t)(stream->line_length + kept);
        if (!stop)
            return;
        stream->after_cr = *stop == '\r';
        end_line(stream);
        bytes = stop + 1;
    }
}

static inline void end_head(struct stream *stream)
{
    char *head = stream->head;
    head[stream->head_length] = '\0';
    stream->status = strncmp(head, "HTTP/1.1 ", 9) ? 0 : (uint16_t)atoi(head + 9);
    if (stream->status != 200)
        stream->error = "the response's status is not 200";
    else if (!strcasestr(head, "\r\ncontent-type: text/event-stream"))
        stream->error = "the response is no event stream";
    stream->part = strcasestr(head, "\r\ntransfer-encoding: chunked") ? CHUNK_SIZE : UNFRAMED;
    free(head);
    stream->head = NULL;
}

static inline void take_head_byte(struct stream *stream, char byte)
{
    if (!stream->head && !(stream->head = malloc(HEAD_MAX + 1)))
        abort();
    if (stream->head_length == HEAD_MAX) {
        stream->error = "the response's head is too long";
        return;
    }
    stream->head[stream->head_length++] = byte;
    if (stream->head_length >= 4 && !memcmp(stream->head + stream->head_length - 4, "\r\n\r\n", 4))
        end_head(stream);
}

static inline void take_chunk_size_byte(struct stream *stream, char byte)
{
    int digit = byte >= '0' && byte <= '9'   ? byte - '0'
                : byte >= 'a' && byte <= 'f' ? byte - 'a' + 10
                : byte >= 'A' && byte <= 'F' ? byte - 'A' + 10
                                             : -1;
    if (digit >= 0 && stream->chunk_left < UINT64_C(1) << 56) {
        stream->chunk_left = stream->chunk_left * 16 + (uint64_t)digit;
        stream->any_digit = true;
    } else if (stream->any_digit && (byte == '\r' || byte == ';')) {
        stream->any_digit = false;
        stream->part = CHUNK_EXTENSION;
    } else {
        stream->error = "the chunked framing is broken: a chunk's size";
    }
}

/* Takes the next bytes of the connection. At the first fault `error` says what it was, and nothing more
   is taken. */
static inline void stream_take(struct stream *stream, const char *bytes, size_t length)
{
    const char *end = bytes + length;
    while (bytes < end && !stream->error) {
        switch ((enum part)stream->part) {
        case HEAD:
            take_head_byte(stream, *bytes++);
            break;
        case CHUNK_SIZE:
            take_chunk_size_byte(stream, *bytes++);
            break;
        case CHUNK_EXTENSION: /* up to and with the LF that ends the size's line */
            if (*bytes++ == '\n')
                stream->part = stream->chunk_left ? CHUNK_DATA : ENDED;
            break;
        case CHUNK_DATA: {
            size_t size = (size_t)(end - bytes);
            if (size > stream->chunk_left)
                size = (size_t)stream->chunk_left;
            take_lines(stream, bytes, size);
            bytes += size;
            stream->chunk_left -= size;
            if (!stream->chunk_left)
                stream->part = CHUNK_END;
            break;
        }
        case CHUNK_END:
        case CHUNK_END_LF:
            if (*bytes++ != (stream->part == CHUNK_END ? '\r' : '\n'))
                stream->error = "the chunked framing is broken: a chunk's end";
            stream->part = stream->part == CHUNK_END ? CHUNK_END_LF : CHUNK_SIZE;
            break;
        case UNFRAMED:
            take_lines(stream, bytes, (size_t)(end - bytes));
            bytes = end;
            break;
        case ENDED:
            return;
        }
    }
}

#endif
