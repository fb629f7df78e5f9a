import type { ArticleView, Named } from './articles.js'
import type { Origin } from './origin.js'

interface CategoryView extends Named {
  readonly articles: readonly ArticleView[]
}

export interface Choices {
  readonly authors: readonly Named[]
  readonly categories: readonly Named[]
}

export const frontPage = (categories: readonly CategoryView[], origin: Origin): string =>
  page(
    'Articles',
    categories
      .map(
        ({ id, name, articles }) =>
          `<section><h2><a href="/categories/${id}">${text(name)}</a></h2>${listOf(articles)}</section>`,
      )
      .join(''),
    origin,
  )

export const listPage = (name: string, articles: readonly ArticleView[], origin: Origin): string =>
  page(name, `<section><h2>${text(name)}</h2>${listOf(articles)}</section>`, origin)

const listOf = (articles: readonly ArticleView[]): string =>
  articles.length === 0
    ? '<p>No articles yet.</p>'
    : `<ul>${articles
        .map(
          ({ id, title, author }) =>
            `<li><a href="/articles/${id}">${text(title)}</a> <small>${text(author.name)}</small></li>`,
        )
        .join('')}</ul>`

export const articlePage = (article: ArticleView, origin: Origin): string =>
  page(
    article.title,
    `<article><h1>${text(article.title)}</h1>
<p class="by">${text(article.author.name)} in <a href="/categories/${article.category.id}">${text(article.category.name)}</a>${article.published ? '' : ' <mark>draft</mark>'}</p>
<p>${text(article.text)}</p>
<nav><a class="button" href="/articles/${article.id}/edit">Edit</a>
<a class="button" href="/authors/${article.author.id}/edit">Edit author</a>
<form method="post" action="/articles/${article.id}/expire"><button title="The next visitor gets the old page, while it is made anew">Mark stale</button></form></nav></article>`,
    origin,
  )

/** For a new article `article` has no id. */
export function articleForm(article: Partial<ArticleView>, { authors, categories }: Choices): string {
  const { id, title = '', text: body = '', published = true, version = 1, author, category } = article
  return page(
    id === undefined ? 'New article' : title,
    `<section><h1>${id === undefined ? 'New article' : 'Edit article'}</h1>
<form method="post" action="/articles${id === undefined ? '' : `/${id}`}">
<input type="hidden" name="version" value="${version}">
<label>Title <input name="title" value="${text(title)}" required maxlength="200"></label>
<label>Text <textarea name="text" rows="6" required maxlength="5000">${text(body)}</textarea></label>
<label>Author <select name="author">${options(authors, author)}</select></label>
<label>Category <select name="category">${options(categories, category)}</select></label>
<label class="check"><input type="checkbox" name="published" value="true"${published ? ' checked' : ''}> Published</label>
<button>Save</button></form>${id === undefined ? '' : `<form method="post" action="/articles/${id}/delete"><button class="danger">Delete</button></form>`}</section>`,
  )
}

export const authorForm = ({ id, name }: Named): string =>
  page(
    name,
    `<section><h1>Edit author</h1><form method="post" action="/authors/${id}">
<label>Name <input name="name" value="${text(name)}" required maxlength="200"></label><button>Save</button></form></section>`,
  )

const options = (all: readonly Named[], chosen: Named | undefined): string =>
  all
    .map(
      ({ id, name }) => `<option value="${id}"${id === chosen?.id ? ' selected' : ''}>${text(name)}</option>`,
    )
    .join('')

export const messagePage = (status: number, message: string): string =>
  page(`${status}`, `<section><h1>${text(message)}</h1></section>`)

function page(title: string, body: string, origin?: Origin): string {
  const foot =
    origin === undefined
      ? ''
      : `<footer><b data-verdict="${origin.verdict}">${origin.verdict}</b> <span>${text(origin.why)}</span></footer>`
  return `<!doctype html><html lang="en"><head><meta charset="utf-8"><meta name="viewport" content="width=device-width">
<title>${text(title)}</title><style>${STYLE}</style></head><body><header><a href="/">Articles</a><a class="button" href="/articles/new">New article</a></header><main>${body}</main>${foot}</body></html>`
}

const STYLE = `
:root{color-scheme:light dark;--line:color-mix(in srgb,currentColor 18%,transparent);--soft:color-mix(in srgb,currentColor 65%,transparent)}
body{font:16px/1.55 system-ui,sans-serif;max-width:60rem;margin:0 auto;padding:0 1rem 5rem}
a{color:inherit}header{display:flex;justify-content:space-between;align-items:center;padding:1.2rem 0;font-weight:600}
header a:first-child,h2 a{text-decoration:none;font-size:1.2rem}h1{font-size:1.5rem;line-height:1.25}h2{margin:.6rem 0}
main{display:grid;grid-template-columns:repeat(auto-fit,minmax(16rem,1fr));gap:1rem}
section,article{border:1px solid var(--line);border-radius:.6rem;padding:.3rem 1.2rem 1.1rem}
ul{list-style:none;margin:0;padding:0}li{padding:.45rem 0;border-top:1px solid var(--line)}small,.by,footer span{color:var(--soft);font-size:.85rem}small{display:block}
nav{display:flex;gap:.6rem;flex-wrap:wrap}form{margin:0}label{display:block;margin:.7rem 0}
input,select,textarea{font:inherit;width:100%;box-sizing:border-box;padding:.4rem}.check input{width:auto}
button,.button{font:inherit;font-size:.9rem;font-weight:400;padding:.3rem .9rem;border:1px solid var(--line);border-radius:.4rem;background:none;color:inherit;text-decoration:none;cursor:pointer}
.danger{margin-top:.8rem;color:#c33}
footer{position:fixed;inset:auto 0 0;padding:.55rem 1rem;text-align:center;background:Canvas;border-top:1px solid var(--line);overflow-wrap:anywhere}`

function text(value: string): string {
  return value.replace(/[&<>"']/g, (sign) => `&#${sign.charCodeAt(0)};`)
}
