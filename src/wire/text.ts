/** Whether a text has no half of a surrogate pair, which UTF-8 cannot hold. */
export function isWellFormed(text: string): boolean {
  // Every Node from 20 on has it; the types of ES2023 do not.
  return (text as unknown as { isWellFormed(): boolean }).isWellFormed()
}
