select page from shop.visits where page = '{{ var('start') }}'
