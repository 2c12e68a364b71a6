import { closeSync, fsyncSync, ftruncateSync, openSync, writeSync } from 'node:fs';
import { WriteError } from './atomic-write';

/** A file that grows by records: each is handed to the system at once, so that a killed run loses none of them. */
export class AppendFile {
  private constructor(
    readonly file: string,
    private descriptor: number | null,
    private length: number,
  ) {}

  /** Starts a file anew; one that stood there is emptied. */
  static create(file: string): AppendFile {
    return new AppendFile(file, open(file, 'w'), 0);
  }

  /** Goes on behind the first `length` bytes of a file; what follows them is dropped. */
  static resume(file: string, length: number): AppendFile {
    const descriptor = open(file, 'r+');
    ftruncateSync(descriptor, length);
    return new AppendFile(file, descriptor, length);
  }

  /** @throws WriteError if the record could not be written (disk full); the file then ends with the one before */
  append(record: Uint8Array): void {
    if (this.descriptor === null) throw new WriteError(this.file, 'EBADF', 'is closed: nothing can be appended to it.');
    try {
      for (let done = 0; done < record.length;) {
        done += writeSync(this.descriptor, record, done, record.length - done, this.length + done);
      }
    } catch (error) {
      ftruncateSync(this.descriptor, this.length);
      throw explain(error, this.file, 'append', 'Free space on the disk and resume.');
    }
    this.length += record.length;
  }

  /** Puts what was written on the disk. */
  flush(): void {
    if (this.descriptor !== null) fsyncSync(this.descriptor);
  }

  /** Flushes and closes. May be called again. */
  close(): void {
    if (this.descriptor === null) return;
    this.flush();
    closeSync(this.descriptor);
    this.descriptor = null;
  }
}

function open(file: string, flags: string): number {
  try {
    return openSync(file, flags);
  } catch (error) {
    throw explain(error, file, 'open', 'Make its folder writable or choose another.');
  }
}

function explain(error: unknown, file: string, what: string, advice: string): WriteError {
  const { code = 'EIO', message } = error as NodeJS.ErrnoException;
  const wrapped = new WriteError(file, code, `cannot ${what} (${message}). ${advice}`);
  wrapped.cause = error;
  return wrapped;
}
