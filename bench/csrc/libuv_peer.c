/* libuv as a peer: the same echo, packets and wakes as the other peers (see src/peers/mod.rs). */
#include <stdint.h>
#include <stdlib.h>
#include <string.h>
#include <uv.h>

#define BUFFER (64 * 1024)
static char buffer[BUFFER];

struct rest {
    uv_write_t request;
    uv_buf_t left;
};

static void lend(uv_handle_t *handle, size_t suggested, uv_buf_t *out) {
    (void)handle;
    (void)suggested;
    *out = uv_buf_init(buffer, BUFFER);
}

static void closed(uv_handle_t *handle) { free(handle); }

static void read_some(uv_stream_t *stream, ssize_t count, const uv_buf_t *from);

static void rest_written(uv_write_t *request, int status) {
    uv_stream_t *stream = request->handle;
    free(((struct rest *)request)->left.base);
    free(request);
    if (status == 0 && !uv_is_closing((uv_handle_t *)stream))
        uv_read_start(stream, lend, read_some);
}

static void read_some(uv_stream_t *stream, ssize_t count, const uv_buf_t *from) {
    if (count == 0)
        return;
    if (count < 0) {
        uv_close((uv_handle_t *)stream, closed);
        return;
    }
    uv_buf_t bytes = uv_buf_init(from->base, (unsigned)count);
    int written = uv_try_write(stream, &bytes, 1);
    if (written == count)
        return;
    if (written < 0 && written != UV_EAGAIN) {
        uv_close((uv_handle_t *)stream, closed);
        return;
    }
    if (written < 0)
        written = 0;
    struct rest *rest = malloc(sizeof *rest);
    rest->left = uv_buf_init(malloc(count - written), (unsigned)(count - written));
    memcpy(rest->left.base, from->base + written, count - written);
    uv_read_stop(stream);
    uv_write(&rest->request, stream, &rest->left, 1, rest_written);
}

static void connected(uv_stream_t *listener, int status) {
    if (status < 0)
        return;
    uv_tcp_t *client = malloc(sizeof *client);
    uv_tcp_init(listener->loop, client);
    if (uv_accept(listener, (uv_stream_t *)client) == 0) {
        uv_tcp_nodelay(client, 1);
        uv_read_start((uv_stream_t *)client, lend, read_some);
    } else {
        uv_close((uv_handle_t *)client, closed);
    }
}

int kodiak_uv_serve_tcp(int fd) {
    uv_loop_t loop;
    uv_tcp_t listener;
    uv_loop_init(&loop);
    uv_tcp_init(&loop, &listener);
    uv_tcp_open(&listener, fd);
    int answer = uv_listen((uv_stream_t *)&listener, 4096, connected);
    return answer ? answer : uv_run(&loop, UV_RUN_DEFAULT);
}

static void received(uv_udp_t *socket, ssize_t count, const uv_buf_t *from, const struct sockaddr *sender, unsigned flags) {
    (void)flags;
    if (count <= 0 || sender == NULL)
        return;
    uv_buf_t bytes = uv_buf_init(from->base, (unsigned)count);
    uv_udp_try_send(socket, &bytes, 1, sender);
}

int kodiak_uv_serve_udp(int fd) {
    uv_loop_t loop;
    uv_udp_t socket;
    uv_loop_init(&loop);
    uv_udp_init(&loop, &socket);
    uv_udp_open(&socket, fd);
    int answer = uv_udp_recv_start(&socket, lend, received);
    return answer ? answer : uv_run(&loop, UV_RUN_DEFAULT);
}

static uint64_t woken;
static void woke(uv_async_t *handle) {
    (void)handle;
    woken++;
}

uint64_t kodiak_uv_wakes(uint64_t count) {
    uv_loop_t loop;
    uv_async_t waker;
    uv_loop_init(&loop);
    uv_async_init(&loop, &waker, woke);
    woken = 0;
    uint64_t begun = uv_hrtime();
    for (uint64_t i = 0; i < count; i++) {
        uv_async_send(&waker);
        uv_run(&loop, UV_RUN_ONCE);
    }
    uint64_t took = uv_hrtime() - begun;
    uv_close((uv_handle_t *)&waker, NULL);
    uv_run(&loop, UV_RUN_DEFAULT);
    uv_loop_close(&loop);
    return woken == count ? took : 0;
}
