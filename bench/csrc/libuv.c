/* libuv: the same echo, packets and wakes as the other stacks (see src/io_stacks/mod.rs). */
#include <stdint.h>
#include <stdlib.h>
#include <string.h>
#include <uv.h>

#define BUFFER (64 * 1024)
static char buffer[BUFFER];

struct unsent {
    uv_write_t request;
    uv_buf_t left;
};

static void on_alloc(uv_handle_t *handle, size_t suggested, uv_buf_t *out) {
    (void)handle;
    (void)suggested;
    *out = uv_buf_init(buffer, BUFFER);
}

static void on_close(uv_handle_t *handle) { free(handle); }

static void on_read(uv_stream_t *stream, ssize_t count, const uv_buf_t *from);

static void on_unsent_written(uv_write_t *request, int status) {
    uv_stream_t *stream = request->handle;
    free(((struct unsent *)request)->left.base);
    free(request);
    if (status == 0 && !uv_is_closing((uv_handle_t *)stream))
        uv_read_start(stream, on_alloc, on_read);
}

static void on_read(uv_stream_t *stream, ssize_t count, const uv_buf_t *from) {
    if (count == 0)
        return;
    if (count < 0) {
        uv_close((uv_handle_t *)stream, on_close);
        return;
    }
    uv_buf_t bytes = uv_buf_init(from->base, (unsigned)count);
    int written = uv_try_write(stream, &bytes, 1);
    if (written == count)
        return;
    if (written < 0 && written != UV_EAGAIN) {
        uv_close((uv_handle_t *)stream, on_close);
        return;
    }
    if (written < 0)
        written = 0;
    struct unsent *unsent = malloc(sizeof *unsent);
    unsent->left = uv_buf_init(malloc(count - written), (unsigned)(count - written));
    memcpy(unsent->left.base, from->base + written, count - written);
    uv_read_stop(stream);
    uv_write(&unsent->request, stream, &unsent->left, 1, on_unsent_written);
}

static void on_connection(uv_stream_t *listener, int status) {
    if (status < 0)
        return;
    uv_tcp_t *client = malloc(sizeof *client);
    uv_tcp_init(listener->loop, client);
    if (uv_accept(listener, (uv_stream_t *)client) == 0) {
        uv_tcp_nodelay(client, 1);
        uv_read_start((uv_stream_t *)client, on_alloc, on_read);
    } else {
        uv_close((uv_handle_t *)client, on_close);
    }
}

int kodiak_uv_serve_tcp(int fd) {
    uv_loop_t loop;
    uv_tcp_t listener;
    uv_loop_init(&loop);
    uv_tcp_init(&loop, &listener);
    uv_tcp_open(&listener, fd);
    int answer = uv_listen((uv_stream_t *)&listener, 4096, on_connection);
    return answer ? answer : uv_run(&loop, UV_RUN_DEFAULT);
}

static void on_packet(uv_udp_t *socket, ssize_t count, const uv_buf_t *from,
                      const struct sockaddr *sender, unsigned flags) {
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
    int answer = uv_udp_recv_start(&socket, on_alloc, on_packet);
    return answer ? answer : uv_run(&loop, UV_RUN_DEFAULT);
}

static uint64_t wakes_seen;
static void on_wake(uv_async_t *handle) {
    (void)handle;
    wakes_seen++;
}

uint64_t kodiak_uv_wakes(uint64_t count) {
    uv_loop_t loop;
    uv_async_t waker;
    uv_loop_init(&loop);
    uv_async_init(&loop, &waker, on_wake);
    wakes_seen = 0;
    uint64_t begun = uv_hrtime();
    for (uint64_t i = 0; i < count; i++) {
        uv_async_send(&waker);
        uv_run(&loop, UV_RUN_ONCE);
    }
    uint64_t took = uv_hrtime() - begun;
    uv_close((uv_handle_t *)&waker, NULL);
    uv_run(&loop, UV_RUN_DEFAULT);
    uv_loop_close(&loop);
    return wakes_seen == count ? took : 0;
}
