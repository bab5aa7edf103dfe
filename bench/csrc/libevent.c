/* libevent: the same echo, packets and turns as the other stacks (see src/io_stacks/mod.rs). */
#define _GNU_SOURCE
#include <errno.h>
#include <event2/event.h>
#include <netinet/in.h>
#include <netinet/tcp.h>
#include <stdint.h>
#include <stdlib.h>
#include <string.h>
#include <sys/eventfd.h>
#include <sys/socket.h>
#include <time.h>
#include <unistd.h>

#define BUFFER (64 * 1024)
static char buffer[BUFFER];

struct client {
    struct event *event;
    char *unsent;
    size_t left;
    size_t start;
};

static void close_client(struct client *client, evutil_socket_t fd) {
    event_free(client->event);
    free(client->unsent);
    free(client);
    close(fd);
}

static void on_ready(evutil_socket_t fd, short what, void *argument);

static void wait_for(struct client *client, evutil_socket_t fd, short what) {
    event_del(client->event);
    struct event_base *base = event_get_base(client->event);
    event_assign(client->event, base, fd, what | EV_PERSIST, on_ready, client);
    event_add(client->event, NULL);
}

static void on_ready(evutil_socket_t fd, short what, void *argument) {
    struct client *client = argument;
    (void)what;
    if (client->unsent) {
        ssize_t written = write(fd, client->unsent + client->start, client->left);
        if (written < 0) {
            if (errno != EAGAIN)
                close_client(client, fd);
            return;
        }
        client->start += written;
        client->left -= written;
        if (client->left)
            return;
        free(client->unsent);
        client->unsent = NULL;
        wait_for(client, fd, EV_READ);
        return;
    }
    ssize_t count = read(fd, buffer, BUFFER);
    if (count <= 0) {
        if (count == 0 || errno != EAGAIN)
            close_client(client, fd);
        return;
    }
    ssize_t written = write(fd, buffer, count);
    if (written == count)
        return;
    if (written < 0 && errno != EAGAIN) {
        close_client(client, fd);
        return;
    }
    if (written < 0)
        written = 0;
    client->start = 0;
    client->left = count - written;
    client->unsent = malloc(client->left);
    memcpy(client->unsent, buffer + written, client->left);
    wait_for(client, fd, EV_WRITE);
}

static void accept_clients(evutil_socket_t listener, short what, void *base) {
    (void)what;
    for (int i = 0; i < 64; i++) {
        int fd = accept4(listener, NULL, NULL, SOCK_NONBLOCK | SOCK_CLOEXEC), on = 1;
        if (fd < 0)
            return;
        setsockopt(fd, IPPROTO_TCP, TCP_NODELAY, &on, sizeof on);
        struct client *client = calloc(1, sizeof *client);
        client->event = event_new(base, fd, EV_READ | EV_PERSIST, on_ready, client);
        event_add(client->event, NULL);
    }
}

int kodiak_event_serve_tcp(int fd) {
    struct event_base *base = event_base_new();
    event_add(event_new(base, fd, EV_READ | EV_PERSIST, accept_clients, base), NULL);
    return event_base_dispatch(base);
}

static void packets(evutil_socket_t fd, short what, void *argument) {
    (void)what;
    (void)argument;
    for (int i = 0; i < 64; i++) {
        struct sockaddr_storage sender;
        socklen_t length = sizeof sender;
        ssize_t count = recvfrom(fd, buffer, BUFFER, 0, (struct sockaddr *)&sender, &length);
        if (count < 0)
            return;
        sendto(fd, buffer, count, 0, (struct sockaddr *)&sender, length);
    }
}

int kodiak_event_serve_udp(int fd) {
    struct event_base *base = event_base_new();
    event_add(event_new(base, fd, EV_READ | EV_PERSIST, packets, NULL), NULL);
    return event_base_dispatch(base);
}

static uint64_t events_seen;
static void count_event(evutil_socket_t fd, short what, void *argument) {
    (void)fd;
    (void)what;
    (void)argument;
    events_seen++;
}

static uint64_t now(void) {
    struct timespec time;
    clock_gettime(CLOCK_MONOTONIC, &time);
    return time.tv_sec * 1000000000ull + time.tv_nsec;
}

uint64_t kodiak_event_turns(uint64_t count) {
    struct event_base *base = event_base_new();
    int fd = eventfd(0, EFD_NONBLOCK | EFD_CLOEXEC);
    struct event *event = event_new(base, fd, EV_READ | EV_ET | EV_PERSIST, count_event, NULL);
    event_add(event, NULL);
    events_seen = 0;
    uint64_t begun = now(), one = 1;
    for (uint64_t i = 0; i < count; i++) {
        if (write(fd, &one, 8) != 8)
            break;
        event_base_loop(base, EVLOOP_ONCE);
    }
    uint64_t took = now() - begun;
    event_free(event);
    event_base_free(base);
    close(fd);
    return events_seen == count ? took : 0;
}
