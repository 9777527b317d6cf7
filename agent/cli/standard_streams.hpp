#pragma once
// Standard input, output and error as the program was given them: closed ones, full disks, readers that went away.

namespace kontor::agent::cli {

/// To be called before anything is opened: a closed stream is replaced by one on which reading and writing fail, so that
/// no file that is opened later (a journal, a socket) gets its number and with it what is meant for people.
void hold_standard_streams();

/// To be called last: writes what is still buffered for standard output. When something could not be written, says so on
/// stderr and gives exit code 1 in place of 0. A reader that went away (`| head`) is no error.
int finish_output(int exit_code);

}  // namespace kontor::agent::cli
