/** What a database does by itself when it deletes a row, as far as the foreign keys of an ORM's entities say it. */

/** A foreign key whose rule changes rows when the row that they refer to is deleted. */
export interface Cascade {
  /** The type that refers. */
  readonly from: string
  readonly to: string
  /** Whether its rows are deleted, too. If not, only the reference is. */
  readonly deletes: boolean
}

/** The types whose rows change with a deleted row of a type, by cascades of any depth. */
export function cascadesFrom(cascades: readonly Cascade[]): (type: string) => ReadonlySet<string> {
  return (type) => {
    const changed = new Set<string>()
    const deleted = new Set([type])
    // A set that grows is walked to its end.
    for (const one of deleted)
      for (const { from, to, deletes } of cascades) {
        if (to !== one) continue
        changed.add(from)
        if (deletes) deleted.add(from)
      }
    return changed
  }
}

/** Whether the rule of a foreign key changes rows, and whether it deletes them. `undefined` if it does neither. */
export function effectOf(rule: string | undefined): Pick<Cascade, 'deletes'> | undefined {
  const name = rule?.toLowerCase()
  if (name === 'cascade') return { deletes: true }
  return name === 'set null' || name === 'set default' || name === 'default' ? { deletes: false } : undefined
}
