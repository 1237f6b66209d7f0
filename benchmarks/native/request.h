/* The request: the head that Chrome sends for an EventSource, with a cookie of usual size. What a request costs a
   server depends on its fields, so a bare `GET` would be too cheap. */

#ifndef REQUEST_H
#define REQUEST_H

#include <stdio.h>

/* Writes the request into `request` and returns its length, or 0 if it does not fit. `resume` is the header line of
   a client that reconnects, or empty. */
static inline size_t make_request(char *request, size_t size, const char *host, const char *port, const char *path,
                                  const char *resume)
{
    int length = snprintf(
        request, size,
        "GET %s HTTP/1.1\r\n"
        "Host: %s:%s\r\n"
        "Connection: keep-alive\r\n"
        "sec-ch-ua-platform: \"Linux\"\r\n"
        "Cache-Control: no-cache\r\n"
        "User-Agent: Mozilla/5.0 (X11; Linux x86_64) AppleWebKit/537.36 (KHTML, like Gecko) "
        "Chrome/140.0.0.0 Safari/537.36\r\n"
        "Accept: text/event-stream\r\n"
        "sec-ch-ua: \"Chromium\";v=\"140\", \"Not=A?Brand\";v=\"24\", \"Google Chrome\";v=\"140\"\r\n"
        "sec-ch-ua-mobile: ?0\r\n"
        "Sec-Fetch-Site: same-origin\r\n"
        "Sec-Fetch-Mode: cors\r\n"
        "Sec-Fetch-Dest: empty\r\n"
        "Referer: http://%s:%s/\r\n"
        "Accept-Encoding: gzip, deflate, br, zstd\r\n"
        "Accept-Language: en-US,en;q=0.9\r\n"
        "Cookie: session=4f6b2c1e9d8a7035b1c2d3e4f5061728\r\n"
        "%s"
        "\r\n",
        path, host, port, host, port, resume);
    return (size_t)length < size ? (size_t)length : 0;
}

#endif
