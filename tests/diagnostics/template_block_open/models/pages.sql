{% if var('deep', 'no') == 'yes' %}
select page from shop.visits
