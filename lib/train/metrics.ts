import { dirname } from 'node:path';
import { EventFileWriter, JsonlWriter, readJsonl, type JsonRecord, type ScalarEvent } from '../io';
import type { Diagnosis } from './diagnose';

/** What a run logs: JSON lines, and beside them the same numbers for TensorBoard. */
export class Metrics {
  private constructor(
    private readonly lines: JsonlWriter,
    private readonly events: EventFileWriter,
  ) {}

  /** Starts anew. */
  static create(file: string): Metrics {
    return Metrics.from(file, JsonlWriter.create(file));
  }

  /** Goes on behind the lines up to `step`. */
  static resume(file: string, step: number): Metrics {
    return Metrics.from(file, JsonlWriter.resume(file, step));
  }

  /** The lines are what counts: the events are made of them anew, so that no step is missing or stands twice. */
  private static from(file: string, lines: JsonlWriter): Metrics {
    try {
      return new Metrics(lines, EventFileWriter.replace(dirname(file), readJsonl(file).flatMap(eventOf)));
    } catch (error) {
      lines.close();
      throw error;
    }
  }

  /**
   * Appends a record, with the time in seconds since 1970.
   * @throws WriteError if it could not be written (disk full); the files then end with the record before
   */
  write(record: JsonRecord & { step: number }): void {
    const timed = { ...record, time: Date.now() / 1000 };
    this.lines.write(timed);
    for (const event of eventOf(timed)) this.events.write(event);
  }

  /** Puts what was written on the disk. */
  flush(): void {
    this.lines.flush();
    this.events.flush();
  }

  close(): void {
    try {
      this.lines.close();
    } finally {
      this.events.close();
    }
  }
}

/** The scalars of a line; none where it has no step. What is no finite number is left out. */
function eventOf(record: JsonRecord): ScalarEvent[] {
  const { step, time, loss, losses, lr, ms, images_per_s: imagesPerSecond, knn } = record;
  if (typeof step !== 'number') return [];
  const diagnosis = record.diagnosis as Partial<Diagnosis> | undefined;
  const interference = diagnosis?.gradients?.total;
  const embeddings = Object.entries(diagnosis?.embeddings ?? {});
  const tags: Tagged[] = [
    ['loss/total', loss],
    ...group('loss', losses),
    ['lr', lr],
    ['speed/ms_per_step', ms],
    ['speed/images_per_s', imagesPerSecond],
    ...group('knn', knn),
    ...group('gradient_ratio', interference?.ratio),
    ...group('gradient_own_norm', interference?.own),
    // TensorBoard's filter of tags takes | for "or".
    ...group('gradient_cosine', interference?.cosine).map(([tag, value]) => [tag.replace('|', '_'), value] as const),
    ...embeddings.map(([width, { std }]) => [`embedding_std/${width}`, std] as const),
    ...embeddings.map(([width, { rank }]) => [`embedding_rank/${width}`, rank] as const),
  ];
  const scalars = Object.fromEntries(tags.filter((tag): tag is [string, number] => Number.isFinite(tag[1])));
  if (Object.keys(scalars).length === 0) return [];
  return [{ step, time: typeof time === 'number' ? time : Date.now() / 1000, scalars }];
}

type Tagged = readonly [tag: string, value: unknown];

function group(name: string, values: unknown): Tagged[] {
  return Object.entries(values ?? {}).map(([key, value]) => [`${name}/${key}`, value]);
}
