import type { Explanation } from 'corral'
import type { Book } from './database.js'

/** The cost of a request. */
export interface Cost {
  readonly queries: number
  readonly milliseconds: number
}

export interface Shop {
  readonly shelves: readonly { readonly name: string; readonly books: readonly Book[] }[]
  readonly authors: readonly (readonly [author: string, books: number])[]
}

export function shopPage({ shelves, authors }: Shop, cost: Cost): string {
  return page(
    'Bookshop',
    `${shelves
      .map(
        ({
          name,
          books,
        }) => `<section><h2>${text(name)} <small><a href="/explain?shelf=${part(name)}">why?</a></small></h2>
<ul>${books.map(({ id, title, author }) => `<li><a href="/books/${id}">${text(title)}</a> <span>${text(author)}</span></li>`).join('') || '<li>nothing</li>'}</ul></section>`,
      )
      .join('')}
<section><h2>Authors</h2>
<p>“Forget” drops all cached pages with a book of the author, in every process. The next visitor loads them again. No book is deleted.</p>
<ul>${authors
      .map(
        ([author, books]) =>
          `<li><b>${text(author)}</b><span>${books} ${books === 1 ? 'book' : 'books'}</span>
<form method="post" action="/authors/forget"><input type="hidden" name="author" value="${text(author)}"><button>Forget</button></form></li>`,
      )
      .join('')}</ul></section>`,
    cost,
  )
}

export function bookPage(book: Book, shelves: readonly string[], cost: Cost): string {
  return page(
    book.title,
    `<section><h2>${text(book.title)}</h2><form method="post" action="/books/${book.id}">
<label>Title <input name="title" value="${text(book.title)}" required maxlength="200"></label>
<label>Author <input name="author" value="${text(book.author)}" required maxlength="200"></label>
<label>Shelf <select name="shelf">${shelves
      .map((name) => `<option${name === book.shelf ? ' selected' : ''}>${text(name)}</option>`)
      .join('')}</select></label>
<button>Save</button> <a href="/">Back</a></form></section>`,
    cost,
  )
}

export function explainPage(what: string, told: Explanation, cost: Cost): string {
  return page(
    what,
    `<section><h2>${text(what)}: ${told.verdict}</h2><p>${text(told.reason)}</p>
<ul>${told.dependsOn.map((name) => `<li><code>${text(name)}</code>${told.invalidated.includes(name) ? ' <span>invalidated since</span>' : ''}</li>`).join('')}</ul>
<a href="/">Back</a></section>`,
    cost,
  )
}

export function messagePage(title: string, message: string): string {
  return page(title, `<section><h2>${text(message)}</h2><a href="/">Back</a></section>`)
}

function page(title: string, body: string, cost?: Cost): string {
  const footer =
    cost === undefined
      ? ''
      : `<footer data-queries="${cost.queries}">${cost.queries === 0 ? 'from the cache' : `${cost.queries} ${cost.queries === 1 ? 'query' : 'queries'}`}, ${cost.milliseconds.toFixed(1)} ms</footer>`
  return `<!doctype html><html lang="en"><head><meta charset="utf-8"><meta name="viewport" content="width=device-width">
<title>${text(title)}</title><style>${STYLE}</style></head><body><header><a href="/">Bookshop</a></header><main>${body}</main>${footer}</body></html>`
}

const STYLE = `
:root{color-scheme:light dark;--line:color-mix(in srgb,currentColor 18%,transparent);--soft:color-mix(in srgb,currentColor 62%,transparent)}
body{font:16px/1.5 system-ui,sans-serif;max-width:60rem;margin:0 auto;padding:0 1rem 4rem}
header{padding:1.2rem 0;font-weight:600;font-size:1.2rem}a{color:inherit}header a{text-decoration:none}
main{display:grid;grid-template-columns:repeat(auto-fit,minmax(15rem,1fr));gap:1rem}
section{border:1px solid var(--line);border-radius:.6rem;padding:.2rem 1.1rem 1rem}
h2{font-size:1.05rem}small,span,p{color:var(--soft);font-size:.85rem;font-weight:400}
ul{list-style:none;margin:0;padding:0}li{padding:.35rem 0;border-top:1px solid var(--line)}li span{display:block}b{font-weight:inherit}
form{margin:0}li:has(form){display:grid;grid-template-columns:1fr auto}li form{grid-area:1/2/span 2;align-self:center}label{display:block;margin:.6rem 0}
input,select{font:inherit;width:100%;box-sizing:border-box;padding:.35rem}button{font:inherit;padding:.2rem .7rem}
code{word-break:break-all}
footer{position:fixed;inset:auto 0 0;padding:.5rem 1rem;text-align:center;background:Canvas;border-top:1px solid var(--line);font-variant-numeric:tabular-nums}`

function part(value: string): string {
  return text(encodeURIComponent(value))
}

function text(value: string): string {
  return value.replace(/[&<>"']/g, (sign) => `&#${sign.charCodeAt(0)};`)
}
