/* The bytes of a connection, plain or through TLS. */

#ifndef PIPE_H
#define PIPE_H

#include <errno.h>
#include <stdbool.h>
#include <string.h>
#include <sys/socket.h>
#include <unistd.h>

#ifdef WITH_TLS
#include <openssl/err.h>
#include <openssl/ssl.h>
static SSL_CTX *tls_context; /* NULL: no TLS */
#endif

struct pipe {
    int socket; /* -1: closed */
#ifdef WITH_TLS
    SSL *tls;
#endif
};

/* Returns false if this was built without TLS. The server's certificate is not checked. */
static inline bool use_tls(void)
{
#ifdef WITH_TLS
    tls_context = SSL_CTX_new(TLS_client_method());
    SSL_CTX_set_mode(tls_context, SSL_MODE_RELEASE_BUFFERS | SSL_MODE_ACCEPT_MOVING_WRITE_BUFFER);
    SSL_CTX_set_verify(tls_context, SSL_VERIFY_NONE, NULL);
    return true;
#else
    return false;
#endif
}

#ifdef WITH_TLS
/* Returns what recv() or send() would return. */
static inline ssize_t tls_result(struct pipe *pipe, int result)
{
    if (result > 0)
        return result;
    switch (SSL_get_error(pipe->tls, result)) {
    case SSL_ERROR_WANT_READ:
    case SSL_ERROR_WANT_WRITE:
        errno = EAGAIN;
        return -1;
    case SSL_ERROR_ZERO_RETURN:
        return 0;
    case SSL_ERROR_SSL:
        /* The peer closed without close_notify, as it does when it drops a stream. */
        if (ERR_GET_REASON(ERR_get_error()) == SSL_R_UNEXPECTED_EOF_WHILE_READING)
            return 0;
        errno = EPROTO;
        return -1;
    default:
        return errno ? -1 : 0;
    }
}
#endif

static inline ssize_t pipe_receive(struct pipe *pipe, char *buffer, size_t size)
{
#ifdef WITH_TLS
    if (pipe->tls) {
        ERR_clear_error();
        errno = 0;
        return tls_result(pipe, SSL_read(pipe->tls, buffer, (int)size));
    }
#endif
    return recv(pipe->socket, buffer, size, 0);
}

/* With TLS, the first call starts the handshake. Repeat it while it fails with EAGAIN. */
static inline ssize_t pipe_send(struct pipe *pipe, const char *bytes, size_t length)
{
#ifdef WITH_TLS
    if (tls_context && !pipe->tls) {
        pipe->tls = SSL_new(tls_context);
        SSL_set_fd(pipe->tls, pipe->socket);
        SSL_set_connect_state(pipe->tls);
    }
    if (pipe->tls) {
        ERR_clear_error();
        errno = 0;
        return tls_result(pipe, SSL_write(pipe->tls, bytes, (int)length));
    }
#endif
    return send(pipe->socket, bytes, length, MSG_NOSIGNAL);
}

/* Offers this protocol by ALPN; its name begins with its length. Call use_tls() first. */
static inline void offer_protocol(const char *name)
{
#ifdef WITH_TLS
    SSL_CTX_set_alpn_protos(tls_context, (const unsigned char *)name, (unsigned)strlen(name));
#else
    (void)name;
#endif
}

/* Returns whether the server has chosen a protocol that was offered. Without TLS, nothing is offered. */
static inline bool pipe_has_protocol(struct pipe *pipe)
{
#ifdef WITH_TLS
    const unsigned char *chosen = NULL;
    unsigned length = 0;
    if (pipe->tls)
        SSL_get0_alpn_selected(pipe->tls, &chosen, &length);
    return !pipe->tls || length;
#else
    (void)pipe;
    return true;
#endif
}

/* Returns whether a send that failed with EAGAIN waits for bytes of the peer, as in a handshake. */
static inline bool pipe_wants_bytes(struct pipe *pipe)
{
#ifdef WITH_TLS
    return pipe->tls && SSL_want_read(pipe->tls);
#else
    (void)pipe;
    return false;
#endif
}

/* Returns whether there are received bytes that epoll does not report. */
static inline bool pipe_holds(struct pipe *pipe)
{
#ifdef WITH_TLS
    return pipe->tls && SSL_pending(pipe->tls) > 0;
#else
    (void)pipe;
    return false;
#endif
}

static inline void pipe_close(struct pipe *pipe)
{
#ifdef WITH_TLS
    if (pipe->tls)
        SSL_free(pipe->tls);
    pipe->tls = NULL;
#endif
    if (pipe->socket >= 0)
        close(pipe->socket); /* this also removes it from the epoll */
    pipe->socket = -1;
}

#endif
