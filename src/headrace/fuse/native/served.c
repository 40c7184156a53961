/* The probe "served and listed" as a static program, for images that have no Python: `served.py` beside this directory
 * says what it is for, and both answer to the same tests.
 *
 *     served [--alive] PATH [SECONDS]        exit code 0: yes; 1: no, with one sentence; 2: a wrong command line
 *
 * A call on a mount that nobody serves waits in the kernel, and once the client has taken the request not even SIGKILL
 * ends the wait. So a child asks, and is left behind at the deadline.
 *
 *     cc -static -Os -s -o served served.c
 */

#define _GNU_SOURCE
#include <dirent.h>
#include <errno.h>
#include <fcntl.h>
#include <poll.h>
#include <signal.h>
#include <sys/statvfs.h>
#include <sys/wait.h>

#include "mountinfo.h"

#define DEFAULT_DEADLINE_S 5.0
#define SILENT (-1)
#define UNKNOWN 255

/* In the child: hold none of the parent's streams, so that whoever reads them sees their end, and say how it went. */
static _Noreturn void look_and_exit(const char *path, int answer)
{
    struct statvfs status;
    int null = open("/dev/null", O_RDWR), number = 0;
    for (int stream = 0; stream < 3; stream++)
        dup2(null, stream);
    for (int fd = 3; fd < 4096; fd++)
        if (fd != answer)
            close(fd);
    if (statvfs(path, &status) != 0)
        number = errno;
    DIR *directory = number == 0 ? opendir(path) : NULL;
    errno = 0;
    if (number == 0 && (directory == NULL || readdir(directory) == NULL))
        number = errno;
    _exit(number > UNKNOWN ? UNKNOWN : number);
}

/* Return 0 when `path` was listed, the errno of what failed, or SILENT. */
static int look(const char *path, double deadline_s)
{
    int ends[2], status;
    if (pipe2(ends, O_CLOEXEC) != 0)
        return UNKNOWN;
    pid_t child = fork();
    if (child == 0)
        look_and_exit(path, ends[1]);
    close(ends[1]);
    if (child < 0)
        return UNKNOWN;
    /* The pipe is closed when the child has ended. */
    struct pollfd end = {.fd = ends[0], .events = POLLIN};
    if (poll(&end, 1, (int)(deadline_s * 1000)) == 0) {
        kill(child, SIGKILL);
        return SILENT;
    }
    waitpid(child, &status, 0);
    return WIFEXITED(status) ? WEXITSTATUS(status) : EINTR;
}

/* Print what a look at `point` gave, where it is a reason to say no; return whether it is. */
static int is_no(const char *point, int number, int asks_alive, double deadline_s)
{
    int has_ended = number == ENOTCONN || number == ECONNABORTED;
    if (number == 0 || (asks_alive && !has_ended))
        return 0;
    if (number == SILENT)
        fprintf(stderr, "%s is mounted but nobody answered for %g s.\n", point, deadline_s);
    else if (has_ended)
        fprintf(stderr, "The client of %s has ended (%s).\n", point, strerror(number));
    else
        fprintf(stderr, "%s is mounted but cannot be listed: %s.\n", point, strerror(number));
    return 1;
}

static int is_fuse(const char *type)
{
    return strcmp(type, "fuse") == 0 || strcmp(type, "fuseblk") == 0 || strncmp(type, "fuse.", 5) == 0 ||
           strncmp(type, "fuseblk.", 8) == 0;
}

static int by_name(const void *one, const void *other)
{
    return strcmp(*(char *const *)one, *(char *const *)other);
}

/* Return the places at or beneath `path` where FUSE is mounted, sorted, ended by NULL. */
static char **fuse_points(const char *path)
{
    struct mount *mounts = read_mounts();
    size_t count = 0;
    char **points = must(calloc(1, sizeof *points));
    for (; mounts != NULL && mounts->point != NULL; mounts++) {
        if (is_fuse(mounts->type) && is_beneath(mounts->point, path)) {
            points = must(realloc(points, (count + 2) * sizeof *points));
            points[count++] = mounts->point;
        }
    }
    qsort(points, count, sizeof *points, by_name);
    points[count] = NULL;
    return points;
}

int main(int count, char **arguments)
{
    int asks_alive = count > 1 && strcmp(arguments[1], "--alive") == 0;
    char **words = arguments + 1 + asks_alive, *rest = "";
    int given = count - 1 - asks_alive;
    double deadline_s = given == 2 ? strtod(words[1], &rest) : DEFAULT_DEADLINE_S;
    if (given < 1 || given > 2 || *rest != '\0' || !(deadline_s >= 0 && deadline_s < 1e6)) {
        fputs("usage: served [--alive] PATH [SECONDS]\n", stderr);
        return 2;
    }
    char *path = absolute(words[0]), **points = fuse_points(path);
    if (points[0] == NULL) {
        fprintf(stderr, "No FUSE file system is mounted at %s.\n", path);
        return 1;
    }
    for (char **point = points; *point != NULL; point++) {
        int is_again = point > points && strcmp(point[-1], *point) == 0; /* stacked mounts */
        if (!is_again && is_no(*point, look(*point, deadline_s), asks_alive, deadline_s))
            return 1;
    }
    return 0;
}
