/* Sockets in each of their states. */
#include "probe.h"

#include <netinet/in.h>
#include <netinet/tcp.h>
#include <sys/socket.h>
#include <sys/un.h>

static int state_of(int end)
{
    struct tcp_info info;
    socklen_t length = sizeof info;
    SAME(getsockopt(end, IPPROTO_TCP, TCP_INFO, &info, &length), 0);
    return info.tcpi_state;
}

/* The other side may take a moment. */
static void await_state(int end, int state)
{
    double start = now();
    while (state_of(end) != state && now() - start < 5)
        rest(0.001);
    SAME(state_of(end), state);
    compute(0.01);
    SAME(state_of(end), state);
}

static struct sockaddr_in here(void)
{
    return (struct sockaddr_in){ .sin_family = AF_INET, .sin_addr = { htonl(INADDR_LOOPBACK) } };
}

static struct sockaddr_in name_of(int end)
{
    struct sockaddr_in name;
    socklen_t length = sizeof name;
    SAME(getsockname(end, (struct sockaddr *)&name, &length), 0);
    return name;
}

static int listening(void)
{
    int listener = socket(AF_INET, SOCK_STREAM | SOCK_CLOEXEC, 0);
    struct sockaddr_in any = here();
    SAME(bind(listener, (struct sockaddr *)&any, sizeof any), 0);
    SAME(state_of(listener), TCP_CLOSE);
    SAME(listen(listener, 4), 0);
    await_state(listener, TCP_LISTEN);
    return listener;
}

static void connect_pair(int listener, int pair[2])
{
    struct sockaddr_in name = name_of(listener);
    pair[0] = socket(AF_INET, SOCK_STREAM | SOCK_NONBLOCK, 0);
    if (connect(pair[0], (struct sockaddr *)&name, sizeof name) == -1)
        SAME(errno, EINPROGRESS);
    struct pollfd wanted = { .fd = pair[0], .events = POLLOUT };
    SAME(poll(&wanted, 1, 10000), 1);
    int error = 1;
    socklen_t length = sizeof error;
    SAME(getsockopt(pair[0], SOL_SOCKET, SO_ERROR, &error, &length), 0);
    SAME(error, 0);
    /* Connected, and not accepted yet. */
    await_state(pair[0], TCP_ESTABLISHED);
    SAME(send(pair[0], "early", 5, 0), 5);
    compute(0.01);
    pair[1] = accept4(listener, NULL, NULL, SOCK_CLOEXEC);
    MUST(pair[1] >= 0);
    char found[8];
    SAME(recv(pair[1], found, sizeof found, 0), 5);
    SAME(memcmp(found, "early", 5), 0);
    SAME(fcntl(pair[0], F_SETFL, 0), 0);
}

/* From listening to the last word, and what is left of it. */
static void tcp_states(void)
{
    int listener = listening(), pair[2];
    connect_pair(listener, pair);
    char bytes[16];
    SAME(send(pair[0], "!", 1, MSG_OOB), 1);
    struct pollfd urgent = { .fd = pair[1], .events = POLLPRI };
    SAME(poll(&urgent, 1, 10000), 1);
    SAME(recv(pair[1], bytes, 1, MSG_OOB), 1);
    SAME(bytes[0], '!');
    SAME(shutdown(pair[0], SHUT_WR), 0);
    await_state(pair[0], TCP_FIN_WAIT2);
    await_state(pair[1], TCP_CLOSE_WAIT);
    SAME(recv(pair[1], bytes, sizeof bytes, 0), 0);
    /* The other direction is still there. */
    SAME(send(pair[1], "answer", 6, 0), 6);
    SAME(recv(pair[0], bytes, 6, MSG_WAITALL | MSG_PEEK), 6);
    SAME(recv(pair[0], bytes, 6, 0), 6);
    REFUSED(send(pair[0], "x", 1, MSG_NOSIGNAL), EPIPE);
    struct sockaddr_in name = name_of(pair[1]);
    SAME(close(pair[1]), 0);
    SAME(recv(pair[0], bytes, 1, 0), 0);
    SAME(close(pair[0]), 0);
    SAME(close(listener), 0);
    compute(0.01);
    /* Whoever closed first keeps the name for a while. */
    int next = socket(AF_INET, SOCK_STREAM, 0), yes = 1;
    SAME(setsockopt(next, SOL_SOCKET, SO_REUSEADDR, &yes, sizeof yes), 0);
    SAME(bind(next, (struct sockaddr *)&name, sizeof name), 0);
    SAME(close(next), 0);
}

/* A connection that is cut, one that nobody takes, and one that waits for nothing. */
static void tcp_ends(void)
{
    int listener = listening(), pair[2];
    connect_pair(listener, pair);
    char byte;
    struct linger at_once = { .l_onoff = 1 };
    SAME(setsockopt(pair[1], SOL_SOCKET, SO_LINGER, &at_once, sizeof at_once), 0);
    SAME(close(pair[1]), 0);
    compute(0.01);
    REFUSED(recv(pair[0], &byte, 1, 0), ECONNRESET);
    SAME(state_of(pair[0]), TCP_CLOSE);
    SAME(close(pair[0]), 0);
    struct sockaddr_in name = name_of(listener);
    SAME(close(listener), 0);
    int end = socket(AF_INET, SOCK_STREAM, 0);
    REFUSED(connect(end, (struct sockaddr *)&name, sizeof name), ECONNREFUSED);
    compute(0.01);
    REFUSED(recv(end, &byte, 1, 0), ENOTCONN);
    SAME(close(end), 0);
}

/* UDP with and without a peer, and with one that is not there. */
static void udp_states(void)
{
    int one = socket(AF_INET, SOCK_DGRAM, 0), two = socket(AF_INET, SOCK_DGRAM, 0);
    struct sockaddr_in any = here();
    SAME(bind(one, (struct sockaddr *)&any, sizeof any), 0);
    SAME(bind(two, (struct sockaddr *)&any, sizeof any), 0);
    struct sockaddr_in first = name_of(one), second = name_of(two), from;
    socklen_t length = sizeof from;
    char bytes[16];
    SAME(sendto(one, "a packet", 8, 0, (struct sockaddr *)&second, sizeof second), 8);
    SAME(sendto(one, "", 0, 0, (struct sockaddr *)&second, sizeof second), 0);
    compute(0.01);
    SAME(recvfrom(two, bytes, 3, MSG_TRUNC, (struct sockaddr *)&from, &length), 8);
    SAME(from.sin_port, first.sin_port);
    SAME(recv(two, bytes, sizeof bytes, 0), 0);
    SAME(connect(two, (struct sockaddr *)&first, sizeof first), 0);
    SAME(send(two, "back", 4, 0), 4);
    SAME(recv(one, bytes, sizeof bytes, 0), 4);
    SAME(close(one), 0);
    SAME(send(two, "lost", 4, 0), 4);
    compute(0.01);
    REFUSED(recv(two, bytes, sizeof bytes, 0), ECONNREFUSED);
    struct sockaddr nobody = { .sa_family = AF_UNSPEC };
    SAME(connect(two, &nobody, sizeof nobody), 0);
    REFUSED(send(two, "x", 1, 0), EDESTADDRREQ);
    SAME(close(two), 0);
}

/* Who sends through a UNIX socket is told by the kernel, and it is the process that everybody knows. */
static void credentials(void)
{
    int pair[2], yes = 1;
    SAME(socketpair(AF_UNIX, SOCK_DGRAM, 0, pair), 0);
    SAME(setsockopt(pair[1], SOL_SOCKET, SO_PASSCRED, &yes, sizeof yes), 0);
    for (int i = 0; i < 5; i++) {
        SAME(send(pair[0], &i, sizeof i, 0), sizeof i);
        compute(0.005);
        int found;
        char room[CMSG_SPACE(sizeof(struct ucred))];
        struct iovec part = { &found, sizeof found };
        struct msghdr message = { .msg_iov = &part, .msg_iovlen = 1, .msg_control = room, .msg_controllen = sizeof room };
        SAME(recvmsg(pair[1], &message, 0), sizeof found);
        SAME(found, i);
        struct cmsghdr *header = CMSG_FIRSTHDR(&message);
        MUST(header && header->cmsg_type == SCM_CREDENTIALS);
        struct ucred sender;
        memcpy(&sender, CMSG_DATA(header), sizeof sender);
        SAME(sender.pid, getpid());
        SAME(sender.uid, getuid());
    }
    SAME(close(pair[0]), 0);
    SAME(close(pair[1]), 0);
    /* A socket with a name that is in no directory, and who is at its other end. */
    int listener = socket(AF_UNIX, SOCK_STREAM, 0), end = socket(AF_UNIX, SOCK_STREAM, 0);
    struct sockaddr_un name = { .sun_family = AF_UNIX };
    int length = snprintf(name.sun_path + 1, sizeof name.sun_path - 1, "probe %d", getpid());
    socklen_t size = (socklen_t)(offsetof(struct sockaddr_un, sun_path) + 1 + (size_t)length);
    SAME(bind(listener, (struct sockaddr *)&name, size), 0);
    SAME(listen(listener, 1), 0);
    SAME(connect(end, (struct sockaddr *)&name, size), 0);
    compute(0.01);
    int accepted = accept(listener, NULL, NULL);
    struct ucred peer;
    socklen_t room = sizeof peer;
    SAME(getsockopt(accepted, SOL_SOCKET, SO_PEERCRED, &peer, &room), 0);
    SAME(peer.pid, getpid());
    SAME(close(accepted), 0);
    SAME(close(end), 0);
    SAME(close(listener), 0);
}

const struct check socket_checks[] = {
    { "tcp-states", tcp_states },
    { "tcp-ends", tcp_ends },
    { "udp-states", udp_states },
    { "credentials", credentials },
    { 0 },
};
