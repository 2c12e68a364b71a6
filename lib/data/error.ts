/** Pictures that are missing, unreadable or not usable as asked. */
export class DataError extends Error {
  override readonly name = 'DataError';
}
