select page from {{ ref('page_view') }}
