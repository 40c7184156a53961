/* The stand-in for fusermount3 as a static program, for images that have no Python: `standin.py` beside this directory
 * says what it is for, and both answer to the same tests. One request and one answer on the broker's socket:
 *
 *     -> {"op": "mount" | "unmount", "place": "ds", "options": "ro"}
 *     <- {"ok": true}, with the descriptor of /dev/fuse for a mount, or {"ok": false, "error": "sentence"}
 *
 * The socket's place is compiled in, because go-fuse gives its helper nothing but _FUSE_COMMFD.
 *
 *     cc -static -Os -s -o fusermount3 fusermount3.c
 */

#define _GNU_SOURCE
#include <ctype.h>
#include <errno.h>
#include <limits.h>
#include <stdarg.h>
#include <stdint.h>
#include <sys/socket.h>
#include <sys/time.h>
#include <sys/un.h>
#include <time.h>

#include "mountinfo.h"

#ifndef BROKER_SOCKET
#define BROKER_SOCKET "/run/headrace/fuse/broker.sock"
#endif
#ifndef WAIT_FOR_BROKER_S
#define WAIT_FOR_BROKER_S 30.0
#endif
#define ANSWER_WITHIN_S 30
#define RETRY_MS 100
#define VERSION "fusermount3 version: 3.16.2"
#define USAGE "usage: fusermount3 [-o OPTIONS] [-u] [-z] [-q] [-V] MOUNTPOINT"

static int is_quiet;

static _Noreturn void refuse(const char *format, ...)
{
    va_list arguments;
    if (!is_quiet) {
        va_start(arguments, format);
        fputs("fusermount3: ", stderr);
        vfprintf(stderr, format, arguments);
        fputc('\n', stderr);
        va_end(arguments);
    }
    exit(1);
}

/* -- The command line ---------------------------------------------------------------------------------------------- */

struct call {
    enum { MOUNT, UNMOUNT, SHOW_VERSION, SHOW_HELP } action;
    char *options;
    const char *mountpoint;
};

static char letter_of(const char *argument)
{
    static const char *const words[] = {"--unmount", "--lazy", "--quiet", "--help", "--version", "--auto-unmount"};
    for (int i = 0; i < 6; i++)
        if (strcmp(argument, words[i]) == 0)
            return "ulqhVU"[i];
    return '\0';
}

static void add_option(struct call *call, const char *more)
{
    size_t length = call->options ? strlen(call->options) : 0;
    char *joined = must(malloc(length + strlen(more) + 2));
    sprintf(joined, "%s%s%s", call->options ? call->options : "", call->options ? "," : "", more);
    call->options = joined;
}

/* Whoever asked for quiet gets it also for a command line that is wrong. */
static int asks_for_quiet(const char *argument)
{
    if (strcmp(argument, "--quiet") == 0)
        return 1;
    size_t letters = argument[0] == '-' ? strspn(argument + 1, "abcdefghijklmnopqrstuvwxyz") : 0;
    return letters > 0 && argument[letters + 1] == '\0' && strchr(argument + 1, 'q') != NULL;
}

static struct call read_arguments(char **argument)
{
    struct call call = {MOUNT, NULL, NULL};
    int names = 0, flags[256] = {0};
    for (; *argument != NULL; argument++) {
        if (strcmp(*argument, "--") == 0) {
            while (*++argument != NULL) {
                call.mountpoint = *argument;
                names++;
            }
            break;
        }
        if (letter_of(*argument)) {
            flags[(unsigned char)letter_of(*argument)] = 1;
        } else if ((*argument)[0] == '-' && (*argument)[1] != '\0') {
            for (const char *letter = *argument + 1; *letter != '\0'; letter++) {
                if (*letter == 'o') {
                    const char *value = letter[1] != '\0' ? letter + 1 : argument[1] != NULL ? *++argument : "";
                    add_option(&call, value);
                    break;
                }
                flags[(unsigned char)*letter] = 1;
            }
        } else {
            call.mountpoint = *argument;
            names++;
        }
    }
    if (flags['V'] || flags['h'])
        call.action = flags['V'] ? SHOW_VERSION : SHOW_HELP;
    else if (names != 1)
        refuse(names == 0 ? "missing mountpoint argument" : "extra arguments after the mountpoint");
    else if (flags['u'])
        call.action = UNMOUNT;
    return call;
}

/* -- The place ------------------------------------------------------------------------------------------------------ */

/* Return `path` with the symbolic links resolved of as much of it as exists. */
static char *resolved(char *path)
{
    size_t length = strlen(path);
    for (;;) {
        char kept = path[length];
        path[length] = '\0';
        char *real = realpath(length > 0 ? path : "/", NULL);
        path[length] = kept;
        if (real != NULL) {
            char *whole = must(malloc(strlen(real) + strlen(path + length) + 2));
            sprintf(whole, "%s%s", real, path + length);
            return absolute(whole);
        }
        if (length == 0)
            return path;
        while (length > 0 && path[--length] != '/')
            ;
    }
}

/* Return the mount point relative to the volume around it: the innermost mount that is no FUSE. Only its parent is
 * resolved, because the mount point itself may be a mount that nobody serves. */
static char *place_of(const char *mountpoint)
{
    char *path = absolute(mountpoint), *slash = strrchr(path, '/');
    char *name = must(strdup(slash + 1));
    *slash = '\0';
    char *parent = resolved(path);
    path = must(malloc(strlen(parent) + strlen(name) + 2));
    sprintf(path, "%s/%s", parent, name);
    path = absolute(path);
    struct mount *mounts = read_mounts(), best = {"/", "", ""};
    if (mounts == NULL)
        refuse("%s cannot be read: %s", MOUNTINFO, strerror(errno));
    for (struct mount *mount = mounts; mount->point != NULL; mount++) {
        int is_around = is_beneath(path, mount->point) && strcmp(path, mount->point) != 0;
        if (is_around && strncmp(mount->type, "fuse", 4) != 0 && strlen(mount->point) >= strlen(best.point))
            best = *mount;
    }
    const char *relative = path + (strcmp(best.point, "/") == 0 ? 0 : strlen(best.point));
    char *place = must(malloc(strlen(best.root) + strlen(relative) + 2));
    sprintf(place, "%s/%s", best.root, relative);
    return absolute(place) + 1;
}

/* -- JSON ------------------------------------------------------------------------------------------------------------ */

/* Return how many bytes at `text` are one UTF-8 character, 0 for a byte that is part of none. */
static int utf8_length(const unsigned char *text)
{
    int length = text[0] < 0x80 ? 1 : text[0] >= 0xf0 && text[0] < 0xf5 ? 4 : text[0] >= 0xe0 ? 3 : text[0] >= 0xc2 ? 2 : 0;
    if (text[0] >= 0xf5 || length == 0)
        return 0;
    for (int i = 1; i < length; i++)
        if ((text[i] & 0xc0) != 0x80)
            return 0;
    if ((text[0] == 0xe0 && text[1] < 0xa0) || (text[0] == 0xed && text[1] > 0x9f) ||
        (text[0] == 0xf0 && text[1] < 0x90) || (text[0] == 0xf4 && text[1] > 0x8f))
        return 0;
    return length;
}

/* Write a JSON string. A byte that is no UTF-8 becomes the lone surrogate that Python makes of it. */
static void write_string(FILE *out, const char *text)
{
    const unsigned char *at = (const unsigned char *)text;
    fputc('"', out);
    while (*at != '\0') {
        int length = utf8_length(at);
        if (length == 0) {
            fprintf(out, "\\udc%02x", *at++);
        } else if (*at < 0x20 || *at == '"' || *at == '\\') {
            fprintf(out, "\\u%04x", *at++);
        } else {
            fwrite(at, 1, (size_t)length, out);
            at += length;
        }
    }
    fputc('"', out);
}

static char *request_of(const struct call *call)
{
    char *text;
    size_t size;
    FILE *out = must(open_memstream(&text, &size));
    fprintf(out, "{\"op\": \"%s\", \"place\": ", call->action == MOUNT ? "mount" : "unmount");
    write_string(out, place_of(call->mountpoint));
    fputs(", \"options\": ", out);
    write_string(out, call->options != NULL ? call->options : "");
    fputs("}", out);
    fclose(out);
    return text;
}

/* Return where the value of a member begins, NULL where there is none. Inside of strings quotes are escaped, so a quoted
 * name before a colon is a member. */
static const char *member(const char *text, const char *quoted_name)
{
    const char *found = text;
    while ((found = strstr(found, quoted_name)) != NULL) {
        found += strlen(quoted_name);
        const char *value = found + strspn(found, " \t\r\n");
        if (*value == ':')
            return value + 1 + strspn(value + 1, " \t\r\n");
    }
    return NULL;
}

static void put_utf8(FILE *out, uint32_t code)
{
    if (code < 0x80) {
        fputc((int)code, out);
    } else if (code < 0x800) {
        fprintf(out, "%c%c", 0xc0 | code >> 6, 0x80 | (code & 63));
    } else if (code < 0x10000) {
        fprintf(out, "%c%c%c", 0xe0 | code >> 12, 0x80 | (code >> 6 & 63), 0x80 | (code & 63));
    } else {
        fprintf(out, "%c%c%c%c", 0xf0 | code >> 18, 0x80 | (code >> 12 & 63), 0x80 | (code >> 6 & 63), 0x80 | (code & 63));
    }
}

/* Return the text of a JSON string; NULL for anything else. */
static char *read_string(const char *json)
{
    char *text;
    size_t size;
    uint32_t high = 0;
    if (json == NULL || *json++ != '"')
        return NULL;
    FILE *out = must(open_memstream(&text, &size));
    for (; *json != '\0' && *json != '"'; json++) {
        unsigned int code;
        if (*json != '\\') {
            fputc(*json, out);
        } else if (*++json == 'u' && sscanf(json + 1, "%4x", &code) == 1) {
            json += 4;
            if (code >= 0xd800 && code < 0xdc00) {
                high = code;
            } else {
                put_utf8(out, high && code >= 0xdc00 && code < 0xe000 ? 0x10000 + (high - 0xd800) * 1024 + code - 0xdc00 : code);
                high = 0;
            }
        } else if (*json == '\0') {
            break;
        } else {
            const char *plain = strchr("n\nt\tr\rb\bf\f", *json);
            fputc(plain != NULL ? plain[1] : *json, out);
        }
    }
    fclose(out);
    return text;
}

/* -- The broker ------------------------------------------------------------------------------------------------------ */

static double now_s(void)
{
    struct timespec now;
    clock_gettime(CLOCK_MONOTONIC, &now);
    return (double)now.tv_sec + (double)now.tv_nsec / 1e9;
}

/* Connect, waiting a bounded time for a broker that restarts. */
static int connect_broker(void)
{
    struct sockaddr_un address = {.sun_family = AF_UNIX};
    const struct timeval within = {.tv_sec = ANSWER_WITHIN_S};
    const struct timespec pause = {.tv_nsec = RETRY_MS * 1000000L};
    double deadline = now_s() + WAIT_FOR_BROKER_S;
    _Static_assert(sizeof BROKER_SOCKET <= sizeof address.sun_path, "the broker's socket has too long a path");
    strcpy(address.sun_path, BROKER_SOCKET);
    for (;;) {
        int broker = socket(AF_UNIX, SOCK_SEQPACKET | SOCK_CLOEXEC, 0);
        if (broker < 0)
            refuse("no socket: %s", strerror(errno));
        setsockopt(broker, SOL_SOCKET, SO_SNDTIMEO, &within, sizeof within);
        setsockopt(broker, SOL_SOCKET, SO_RCVTIMEO, &within, sizeof within);
        if (connect(broker, (struct sockaddr *)&address, sizeof address) == 0)
            return broker;
        int number = errno;
        close(broker);
        if ((number != ENOENT && number != ECONNREFUSED && number != EAGAIN) || now_s() >= deadline)
            refuse("no broker at %s within %g s (%s)", BROKER_SOCKET, WAIT_FOR_BROKER_S, strerror(number));
        nanosleep(&pause, NULL);
    }
}

/* Send the request; return the descriptor of the answer, -1 where it has none. Ends the process when refused. */
static int ask(const char *request)
{
    static char answer[65537];
    union {
        char space[CMSG_SPACE(sizeof(int))];
        struct cmsghdr align;
    } control;
    struct iovec data = {answer, sizeof answer - 1};
    struct msghdr message = {.msg_iov = &data, .msg_iovlen = 1, .msg_control = &control, .msg_controllen = sizeof control};
    int broker = connect_broker(), fd = -1;
    if (send(broker, request, strlen(request), MSG_NOSIGNAL) < 0)
        refuse("the broker cannot be asked: %s", strerror(errno));
    ssize_t length = recvmsg(broker, &message, MSG_CMSG_CLOEXEC);
    if (length < 0)
        refuse(errno == EAGAIN ? "timed out" : "the broker did not answer: %s", strerror(errno));
    if (length == 0)
        refuse("the broker went away");
    struct cmsghdr *header = CMSG_FIRSTHDR(&message);
    if (header != NULL && header->cmsg_level == SOL_SOCKET && header->cmsg_type == SCM_RIGHTS)
        memcpy(&fd, CMSG_DATA(header), sizeof fd);
    const char *ok = member(answer, "\"ok\"");
    if (ok == NULL || strncmp(ok, "true", 4) != 0) {
        char *error = read_string(member(answer, "\"error\""));
        refuse("%s", error != NULL ? error : "the broker refused");
    }
    close(broker);
    return fd;
}

/* Give the descriptor to who called, in the way libfuse expects it: one byte with the descriptor alongside. */
static void hand_on(int fd, int caller)
{
    char byte = '\0';
    union {
        char space[CMSG_SPACE(sizeof(int))];
        struct cmsghdr align;
    } control = {{0}};
    struct iovec data = {&byte, 1};
    struct msghdr message = {.msg_iov = &data, .msg_iovlen = 1, .msg_control = &control, .msg_controllen = sizeof control};
    struct cmsghdr *header = CMSG_FIRSTHDR(&message);
    header->cmsg_level = SOL_SOCKET;
    header->cmsg_type = SCM_RIGHTS;
    header->cmsg_len = CMSG_LEN(sizeof fd);
    memcpy(CMSG_DATA(header), &fd, sizeof fd);
    if (sendmsg(caller, &message, MSG_NOSIGNAL) < 0)
        refuse("the descriptor cannot be handed on: %s", strerror(errno));
}

int main(int count, char **arguments)
{
    (void)count;
    for (char **argument = arguments + 1; *argument != NULL; argument++)
        is_quiet |= asks_for_quiet(*argument);
    struct call call = read_arguments(arguments + 1);
    if (call.action == SHOW_VERSION || call.action == SHOW_HELP) {
        puts(call.action == SHOW_VERSION ? VERSION : USAGE);
        return 0;
    }
    const char *caller = getenv("_FUSE_COMMFD");
    if (call.action == MOUNT && (caller == NULL || *caller == '\0' || caller[strspn(caller, "0123456789")] != '\0'))
        refuse("old style mounting is not supported: _FUSE_COMMFD is not set");
    int fd = ask(request_of(&call));
    if (call.action == MOUNT) {
        if (fd < 0)
            refuse("the broker sent no descriptor");
        hand_on(fd, atoi(caller));
    }
    return 0;
}
