/* One received event stream: HTTP/1.1 response head, chunked framing, and the lines of the event stream.

   All state is kept from one read to the next, so reads may split the bytes anywhere. Chunks are decoded before
   lines: with chunked framing, the chunk's own CRLF follows the blank line that ends an event, so a count of blank
   lines in the raw bytes would be twice too high.

   An event is what an EventSource would dispatch: a blank line after at least one `data` line. */

#ifndef STREAM_H
#define STREAM_H

#include <stdbool.h>
#include <stdint.h>
#include <stdlib.h>
#include <string.h>
#include <strings.h>

enum part { HEAD, CHUNK_SIZE, CHUNK_EXTENSION, CHUNK_DATA, CHUNK_END, CHUNK_END_LF, UNFRAMED, ENDED };

/* Only the start of a line is needed: the field's name, an id, or a time stamp. */
enum { LINE_KEPT = 56, HEAD_MAX = 4096, STAMP_DIGITS = 20 };

/* The part of the last id before its number. It is the same for all streams of one server. */
static char stream_epoch[LINE_KEPT];
static size_t stream_epoch_length;

/* Whether ids are `milliseconds-sequence`, as in Redis. These ids only have to grow, so missing events are found by
   the numbers in the events' data. */
static bool stream_ids_are_pairs;

/* If set, called with the time stamp of each event whose data begins with one. */
static void (*stream_take_stamp)(uint64_t nanoseconds);

struct stream {
    char *head; /* only until the response head is complete */
    const char *error;
    uint64_t chunk_left;
    uint64_t events, ids, gaps; /* since the last stream_new_phase() */
    uint64_t sequence, epoch; /* of the last id; epoch: 0 before the first id, and a hash unless ids are pairs */
    uint64_t new_sequence, new_epoch; /* of the current event, 0 if it has no id */
    uint64_t stamp, new_number; /* of the current event, 0 for none */
    uint64_t number; /* of the last event whose data had one */
    uint16_t head_length;
    uint16_t status;
    uint8_t part;
    uint8_t line_length; /* at most LINE_KEPT: longer lines are truncated */
    bool after_cr, has_data, any_digit;
    char line[LINE_KEPT];
};

static inline void stream_new_phase(struct stream *stream)
{
    stream->events = stream->ids = stream->gaps = 0;
}

/* Starts a new response. Keeps the counters and the last id. */
static inline void stream_reset(struct stream *stream)
{
    *stream = (struct stream){
        .events = stream->events, .ids = stream->ids, .gaps = stream->gaps,
        .sequence = stream->sequence, .epoch = stream->epoch, .number = stream->number,
    };
}

static inline uint64_t take_digits(const char *digits, size_t length)
{
    uint64_t number = 0;
    for (size_t i = 0; i < length && digits[i] >= '0' && digits[i] <= '9'; i++)
        number = number * 10 + (uint64_t)(digits[i] - '0');
    return number;
}

/* Ids are `epoch.sequence`. On one connection and in one epoch, each sequence must be one more than the last. */
static inline void take_id(struct stream *stream, const char *id, size_t length)
{
    const char *dash = memchr(id, '-', length);
    if (dash && !memchr(id, '.', length)) {
        stream_ids_are_pairs = true;
        stream->new_epoch = take_digits(id, length);
        stream->new_sequence = take_digits(dash + 1, length - (size_t)(dash + 1 - id));
        return;
    }
    uint64_t epoch = 14695981039346656037u, sequence = 0;
    size_t dot = length;
    while (dot > 0 && id[dot - 1] != '.')
        dot--;
    for (size_t i = 0; i < dot; i++)
        epoch = (epoch ^ (unsigned char)id[i]) * 1099511628211u;
    for (size_t i = dot; i < length; i++)
        sequence = sequence * 10 + (uint64_t)(id[i] - '0');
    memcpy(stream_epoch, id, dot);
    stream_epoch_length = dot;
    stream->new_epoch = epoch;
    stream->new_sequence = sequence;
}

/* Servers stamp events with CLOCK_MONOTONIC, in STAMP_DIGITS digits. A number may follow. */
static inline void take_stamp(struct stream *stream, const char *data, size_t length)
{
    uint64_t stamp = 0;
    for (size_t i = 0; i < STAMP_DIGITS; i++) {
        if (i == length || data[i] < '0' || data[i] > '9')
            return;
        stamp = stamp * 10 + (uint64_t)(data[i] - '0');
    }
    stream->stamp = stamp;
    if (length > STAMP_DIGITS + 1 && data[STAMP_DIGITS] == ' ')
        stream->new_number = take_digits(data + STAMP_DIGITS + 1, length - STAMP_DIGITS - 1);
}

static inline bool is_gap(struct stream *stream)
{
    if (stream_ids_are_pairs)
        return stream->new_epoch < stream->epoch
            || (stream->new_epoch == stream->epoch && stream->new_sequence <= stream->sequence)
            || (stream->number && stream->new_number != stream->number + 1);
    return stream->new_epoch != stream->epoch || stream->new_sequence != stream->sequence + 1;
}

/* An id counts when its event is complete: an incomplete event is sent again. A block without data is no event: it
   moves the cursor, at the start of a stream for example. */
static inline void end_event(struct stream *stream)
{
    if (stream->new_epoch) {
        if (stream->has_data) {
            if (stream->epoch && is_gap(stream))
                stream->gaps++;
            stream->number = stream->new_number;
            stream->ids++;
        }
        stream->epoch = stream->new_epoch;
        stream->sequence = stream->new_sequence;
    }
    stream->events += stream->has_data;
    if (stream->has_data && stream->stamp && stream_take_stamp)
        stream_take_stamp(stream->stamp);
    stream->new_epoch = stream->stamp = stream->new_number = 0;
    stream->has_data = false;
}

static inline void end_line(struct stream *stream)
{
    const char *line = stream->line;
    size_t length = stream->line_length;
    if (length == 0) {
        end_event(stream);
    } else if (length >= 4 && !memcmp(line, "data", 4) && (length == 4 || line[4] == ':')) {
        stream->has_data = true;
        if (stream_take_stamp && length > 6)
            take_stamp(stream, line + 6, length - 6);
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
        if (stream->after_cr) { /* the LF of a CRLF, which may be in the next read */
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
        stream->error = "the response is not an event stream";
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

/* Parses the next bytes of the connection. Sets `error` at the first fault, and ignores all bytes after it. */
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
        case CHUNK_EXTENSION: /* up to the LF that ends the size's line */
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
