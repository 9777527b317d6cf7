#pragma once
// What a child does to itself before it becomes another program, in memory lent by its parent (vfork). Everything here is
// safe in that place: no memory is taken, and nothing outlives the call.

namespace kontor::tools {

/// The calling thread and what it starts from now on can make no sockets but Unix ones. Needs PR_SET_NO_NEW_PRIVS. Returns 0 or an
/// errno: ENOSYS on processors that are not known here.
int forbid_network();

/// Restricts the calling process for good: no new privileges, files only as listed, no sockets but Unix ones when
/// `network` is false. `readable` and `writable` are absolute paths that end in a null pointer; paths that do not exist
/// are skipped. What programs need of the system is readable without being listed, /etc excepted. Called in the child, so that /proc/self is its own. Returns 0, or the errno of what failed: ENOSYS or
/// EOPNOTSUPP where the kernel has no Landlock.
int confine_self(const char* const* readable, const char* const* writable, bool network);

}  // namespace kontor::tools
