/** Metrics as JSON lines: one record per line. */
import { existsSync, readFileSync } from 'node:fs';
import { AppendFile } from './append-file';

/** A record; `step` (training steps done) is what resuming goes by. */
export type JsonRecord = Readonly<Record<string, unknown>>;

/** A metrics file that is damaged or cannot be read. */
export class JsonlError extends Error {
  override readonly name = 'JsonlError';
}

export class JsonlWriter {
  private constructor(private readonly output: AppendFile) {}

  /** Starts a file anew; one that stood there is emptied. */
  static create(file: string): JsonlWriter {
    return new JsonlWriter(AppendFile.create(file));
  }

  /**
   * Goes on with a file (or starts it, if there is none) behind the records up to `step`. A last line cut off by a kill and
   * all records from the first one beyond `step` on are dropped: the resumed run writes them again.
   *
   * @throws JsonlError if a line in the middle is damaged.
   */
  static resume(file: string, step: number): JsonlWriter {
    if (!Number.isSafeInteger(step) || step < 0) {
      throw new JsonlError(`[jsonl] expected a step of 0 or more to resume from, received ${step}`);
    }
    if (!existsSync(file)) return JsonlWriter.create(file);
    const lines = parseLines(file);
    const beyond = lines.find(({ record }) => typeof record.step === 'number' && record.step > step);
    return new JsonlWriter(AppendFile.resume(file, beyond?.begin ?? lines.at(-1)?.end ?? 0));
  }

  /**
   * Appends one record. NaN and infinities, which JSON lacks, are written as the strings "NaN", "Infinity", "-Infinity".
   *
   * @throws WriteError if it could not be written (disk full); the file then ends with the record before.
   */
  write(record: JsonRecord): void {
    this.output.append(Buffer.from(`${JSON.stringify(record, finite)}\n`, 'utf8'));
  }

  /** Puts what was written on the disk. */
  flush(): void {
    this.output.flush();
  }

  /** Flushes and closes. May be called again. */
  close(): void {
    this.output.close();
  }
}

/** The records of a file; a last line that is not whole is left out. */
export function readJsonl(file: string): JsonRecord[] {
  return parseLines(file).map(({ record }) => record);
}

interface Line {
  readonly record: JsonRecord;
  readonly begin: number;
  readonly end: number;
}

/** Whole lines up to the first damaged one; damage is expected at the end only, where a kill or a power cut leaves it. */
function parseLines(file: string): Line[] {
  const bytes = readBytes(file);
  const lines: Line[] = [];
  let damaged: number | null = null;
  let number = 0;
  for (let begin = 0, end; (end = bytes.indexOf(10, begin) + 1) > 0; begin = end) {
    number++;
    const record = parseRecord(bytes.toString('utf8', begin, end));
    if (!record) damaged ??= number;
    else if (damaged === null) lines.push({ record, begin, end });
    else
      throw new JsonlError(
        `[jsonl] ${file}: line ${damaged} is no JSON object. Correct the line or move the file away.`,
      );
  }
  return lines;
}

function readBytes(file: string): Buffer {
  try {
    return readFileSync(file);
  } catch (error) {
    throw new JsonlError(`[jsonl] cannot read ${file}: ${(error as Error).message}. Check the path.`);
  }
}

function parseRecord(line: string): JsonRecord | null {
  try {
    const value: unknown = JSON.parse(line);
    return typeof value === 'object' && value !== null && !Array.isArray(value) ? (value as JsonRecord) : null;
  } catch {
    return null;
  }
}

function finite(_key: string, value: unknown): unknown {
  return typeof value === 'number' && !Number.isFinite(value) ? String(value) : value;
}
